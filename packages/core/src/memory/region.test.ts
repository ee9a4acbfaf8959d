import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { AddressSpace } from './address-space.js';
import { Ram } from './ram.js';
import { Region, WHOLE_SPACE } from './region.js';

/** A leaf of `size` bytes that nobody reads in these tests. */
function leaf(name: string, size = 0x1000): Region {
  return Region.mmio(name, size, { read: () => 0, write: () => undefined });
}

/** The map as `start+size=name@offset`, in hexadecimal. */
function map(space: AddressSpace): string[] {
  return space
    .sections()
    .map(({ start, size, region, offset }) => [start, size, offset].map(n => n.toString(16)).concat(region.name))
    .map(([start, size, offset, name]) => `${start}+${size}=${name}@${offset}`);
}

test('without overlaps, children show where they are', t => {
  const root = Region.container('root', 0x10000);
  root.add(0x2000, leaf('b'));
  root.add(0, leaf('a'));
  t.deepEqual(map(new AddressSpace('as', root)), ['0+1000=a@0', '2000+1000=b@0']);
});

test('the higher priority wins, and the lower one shows on both sides', t => {
  const root = Region.container('root', 0x10000);
  root.add(0, leaf('low', 0x5000), -1);
  root.add(0x1000, leaf('high', 0x1000), 1);
  root.add(0x3000, leaf('middle', 0x1000));
  t.deepEqual(map(new AddressSpace('as', root)), [
    '0+1000=low@0',
    '1000+1000=high@0',
    '2000+1000=low@2000',
    '3000+1000=middle@0',
    '4000+1000=low@4000',
  ]);
});

test('among equal priorities, the one added last wins', t => {
  const root = Region.container('root', 0x10000);
  root.add(0, leaf('first', 0x2000));
  root.add(0x1000, leaf('second', 0x2000));
  t.deepEqual(map(new AddressSpace('as', root)), ['0+1000=first@0', '1000+2000=second@0']);
});

test('priorities count among the children of one container only', t => {
  const root = Region.container('root', 0x10000);
  const strong = Region.container('strong', 0x1000);
  strong.add(0, leaf('inside'), -5);
  root.add(0, strong, 1);
  root.add(0, leaf('beside', 0x2000));
  t.deepEqual(map(new AddressSpace('as', root)), ['0+1000=inside@0', '1000+1000=beside@1000']);
});

test('what lies behind a hole of a container shows through', t => {
  const root = Region.container('root', 0x10000);
  const window = Region.container('window', 0x4000);
  window.add(0x1000, leaf('bar'));
  root.add(0, window, 1);
  root.add(0, leaf('background', 0x4000));
  t.deepEqual(map(new AddressSpace('as', root)), [
    '0+1000=background@0',
    '1000+1000=bar@0',
    '2000+2000=background@2000',
  ]);
});

test('a container cuts off what reaches beyond it', t => {
  const root = Region.container('root', 0x10000);
  const window = Region.container('window', 0x1800);
  window.add(0x1000, leaf('bar'));
  root.add(0x4000, window);
  t.deepEqual(map(new AddressSpace('as', root)), ['5000+800=bar@0']);
});

test('an alias shows a part of a container, wherever the container itself is', t => {
  const inner = Region.container('inner', 0x10000);
  inner.add(0x1000, leaf('a'));
  inner.add(0x3000, leaf('b', 0x2000));
  const root = Region.container('root', 0x10_0000);
  root.add(0x8_0000, inner);
  root.add(0x100, Region.alias('part', inner, 0x1800, 0x2000));
  t.deepEqual(map(new AddressSpace('as', root)), ['100+800=a@800', '1900+800=b@0', '81000+1000=a@0', '83000+2000=b@0']);
});

test('an alias follows its target, also through another alias', t => {
  const inner = Region.container('inner', 0x1000);
  const middle = Region.container('middle', 0x1000);
  middle.add(0, Region.alias('one', inner, 0, 0x1000));
  const space = new AddressSpace('as', Region.alias('two', middle, 0, 0x1000));
  t.deepEqual(map(space), []);
  inner.add(0x10, leaf('late', 0x10));
  t.deepEqual(map(space), ['10+10=late@0']);
});

test('an alias that left its container shows nothing, and catches up when it is back', t => {
  const inner = Region.container('inner', 0x1000);
  const root = Region.container('root', 0x1000);
  const alias = Region.alias('alias', inner, 0, 0x1000);
  root.add(0, alias);
  const space = new AddressSpace('as', root);
  root.remove(alias);
  inner.add(0, leaf('late', 0x10));
  t.deepEqual(map(space), []);
  root.add(0, alias);
  t.deepEqual(map(space), ['0+10=late@0']);
});

test('a region does not keep the aliases that left: a BAR may be mapped again and again', async t => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const inner = Region.container('inner', 0x1000);
  const mapOnce = (): WeakRef<Region> => {
    const root = Region.container('root', 0x1000);
    const alias = Region.alias('alias', inner, 0, 0x1000);
    root.add(0, alias);
    root.remove(alias);
    return new WeakRef(alias);
  };
  const alias = mapOnce();
  await setImmediate();
  collectGarbage();
  t.is(alias.deref(), undefined);
  t.is(inner.size, 0x1000, 'the target is still there');
});

test('two aliases side by side that continue each other are one section', t => {
  const ram = Region.ram('ram', Ram.allocate(0x4000));
  const root = Region.container('root', 0x10000);
  root.add(0, Region.alias('first', ram, 0, 0x2000));
  root.add(0x2000, Region.alias('second', ram, 0x2000, 0x2000));
  root.add(0x4000, Region.alias('again', ram, 0, 0x1000));
  t.deepEqual(map(new AddressSpace('as', root)), ['0+4000=ram@0', '4000+1000=ram@0']);
});

test('a disabled region shows what is behind it, in every address space', t => {
  const root = Region.container('root', 0x2000);
  const front = leaf('front');
  root.add(0, front, 1);
  root.add(0, leaf('back'));
  const one = new AddressSpace('one', root);
  const two = new AddressSpace('two', Region.alias('view', root, 0x800, 0x800));
  front.enabled = false;
  t.deepEqual(map(one), ['0+1000=back@0']);
  t.deepEqual(map(two), ['0+800=back@800']);
  front.enabled = true;
  t.deepEqual(map(one), ['0+1000=front@0']);
  t.deepEqual(map(two), ['0+800=front@800']);
});

test('a disabled container hides all of its children; a disabled target is hidden in its aliases', t => {
  const inner = Region.container('inner', 0x1000);
  inner.add(0, leaf('a'));
  const root = Region.container('root', 0x4000);
  root.add(0, inner);
  root.add(0x2000, Region.alias('alias', inner, 0, 0x1000));
  const space = new AddressSpace('as', root);
  inner.enabled = false;
  t.deepEqual(map(space), []);
});

test('sections up to 2^64 beside ones below 2^53', t => {
  const space = new AddressSpace('idle', Region.container('empty', WHOLE_SPACE));
  const root = Region.container('root', WHOLE_SPACE);
  root.add(0, Region.iommu('iommu', WHOLE_SPACE, { target: space, translate: () => 1 }));
  root.add(0xfee0_0000, leaf('interrupts', 0x10_0000), 1);
  const sections = new AddressSpace('as', root).sections();
  t.deepEqual(
    sections.map(section => [section.start, section.start + section.size, section.offset, section.region.name]),
    [
      [0, 0xfee0_0000, 0, 'iommu'],
      [0xfee0_0000, 0xfef0_0000, 0, 'interrupts'],
      [0xfef0_0000, WHOLE_SPACE, 0xfef0_0000, 'iommu'],
    ],
  );
});

test('what containers push beyond 2^53 is cut off there', t => {
  const root = Region.container('root', WHOLE_SPACE);
  const shifted = Region.container('shifted', WHOLE_SPACE);
  root.add(2 ** 53 - 0x1000, shifted);
  shifted.add(0, leaf('across', 0x3000));
  shifted.add(0x4000, leaf('beyond'));
  t.deepEqual(map(new AddressSpace('as', root)), ['1ffffffffff000+1000=across@0']);
});

test('a region is in one container at a time', t => {
  const root = Region.container('root', 0x1000);
  const other = Region.container('other', 0x1000);
  const child = leaf('child');
  root.add(0, child);
  t.throws(() => other.add(0, child), { message: /child is in root already/ });
  t.is(child.container, root);
  root.remove(child);
  t.is(child.container, undefined);
  t.throws(() => root.remove(child), { message: /child is not in root/ });
  t.notThrows(() => other.add(0, child));
});

test('a region cannot contain itself, not even by an alias', t => {
  const outer = Region.container('outer', 0x1000);
  const inner = Region.container('inner', 0x1000);
  outer.add(0, inner);
  t.throws(() => inner.add(0, outer), { message: /outer contains inner/ });
  t.throws(() => inner.add(0, Region.alias('back', outer, 0, 0x100)), { message: /back contains inner/ });
});

test('sizes, offsets and alias windows are checked', t => {
  const root = Region.container('root', WHOLE_SPACE);
  t.throws(() => leaf('none', 0), { instanceOf: RangeError });
  t.throws(() => leaf('whole', WHOLE_SPACE), { instanceOf: RangeError });
  t.throws(() => Region.container('huge', 2 ** 54), { instanceOf: RangeError });
  t.notThrows(() => Region.container('largest', 2 ** 53));
  t.throws(() => root.add(-1, leaf('a')), { instanceOf: RangeError });
  t.throws(() => root.add(2 ** 53 - 0x800, leaf('b')), { instanceOf: RangeError });
  t.throws(() => Region.alias('c', leaf('target'), 0x800, 0x801), { instanceOf: RangeError });
  t.throws(() => Region.alias('d', root, 1, WHOLE_SPACE), { instanceOf: RangeError });
  t.throws(() => leaf('e').add(0, leaf('f')), { message: /e is mmio, not a container/ });
});

test('tree() shows the tree as info mtree does', t => {
  const ram = Region.ram('ram', Ram.allocate(0x4000));
  const root = Region.container('system', WHOLE_SPACE);
  const registers = leaf('registers');
  root.add(0x2000, registers, 1);
  root.add(0, Region.alias('low', ram, 0x1000, 0x3000));
  registers.enabled = false;
  t.is(
    new AddressSpace('memory', root).tree(),
    [
      'address-space: memory',
      '  0000000000000000-ffffffffffffffff (prio 0, container): system',
      '    0000000000000000-0000000000002fff (prio 0, alias): low @ram 0000000000001000-0000000000003fff',
      '    0000000000002000-0000000000002fff (prio 1, mmio): registers [disabled]',
    ].join('\n'),
  );
});
