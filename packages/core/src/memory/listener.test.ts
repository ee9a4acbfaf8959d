import test from 'ava';
import { AddressSpace } from './address-space.js';
import type { Section } from './flat-view.js';
import { Ram } from './ram.js';
import { Region } from './region.js';
import { memoryBatch } from './topology.js';

function leaf(name: string, size = 0x1000): Region {
  return Region.mmio(name, size, { read: () => 0, write: () => undefined });
}

function recorder() {
  const calls: string[] = [];
  const show = ({ start, size, region }: Section): string =>
    `${region.name}[${start.toString(16)}+${size.toString(16)}]`;
  return {
    regionAdd: (section: Section) => void calls.push(`+${show(section)}`),
    regionRemove: (section: Section) => void calls.push(`-${show(section)}`),
    commit: () => void calls.push('commit'),
    take: () => calls.splice(0),
  };
}

function machine() {
  const root = Region.container('root', 0x10000);
  const ram = Region.ram('ram', Ram.allocate(0x8000));
  root.add(0, ram, -1);
  const space = new AddressSpace('as', root);
  const listener = recorder();
  const registration = space.listen(listener);
  return { root, ram, space, listener, registration };
}

test('a listener is told what is there', t => {
  t.deepEqual(machine().listener.take(), ['+ram[0+8000]', 'commit']);
});

test('a region that splits another one: the old section goes, its parts come', t => {
  const { root, listener } = machine();
  listener.take();
  const bar = leaf('bar');
  root.add(0x2000, bar);
  t.deepEqual(listener.take(), ['-ram[0+8000]', '+ram[0+2000]', '+bar[2000+1000]', '+ram[3000+5000]', 'commit']);
  root.remove(bar);
  t.deepEqual(listener.take(), ['-ram[0+2000]', '-bar[2000+1000]', '-ram[3000+5000]', '+ram[0+8000]', 'commit']);
});

test('sections that stay are not mentioned, and stay the same objects', t => {
  const { root, space, listener } = machine();
  listener.take();
  const before = space.sections()[0];
  root.add(0x9000, leaf('bar'));
  t.deepEqual(listener.take(), ['+bar[9000+1000]', 'commit']);
  t.is(space.sections()[0], before);
});

test('other bytes at the same addresses are another section', t => {
  const ram = Region.ram('ram', Ram.allocate(0x4000));
  const root = Region.container('root', 0x10000);
  const before = Region.alias('before', ram, 0, 0x1000);
  root.add(0, before);
  const listener = recorder();
  new AddressSpace('as', root).listen(listener);
  listener.take();
  memoryBatch(() => {
    root.remove(before);
    root.add(0, Region.alias('after', ram, 0x2000, 0x1000));
  });
  t.deepEqual(listener.take(), ['-ram[0+1000]', '+ram[0+1000]', 'commit']);
});

test('a change that shows nowhere is no change', t => {
  const { root, listener } = machine();
  listener.take();
  root.add(0x1000, leaf('hidden'), -2);
  t.deepEqual(listener.take(), []);
});

test('the listener sees the new map', t => {
  const { root, space } = machine();
  const seen: number[] = [];
  space.listen({ regionAdd: () => seen.push(space.sections().length), regionRemove: () => undefined });
  root.add(0x9000, leaf('bar'));
  t.deepEqual(seen, [1, 2]);
});

test('a batch is one commit, and what cancels out is not mentioned', t => {
  const { root, listener } = machine();
  const bar = leaf('bar');
  root.add(0x9000, bar);
  listener.take();
  memoryBatch(() => {
    root.remove(bar);
    root.add(0xa000, bar);
    bar.enabled = false;
    bar.enabled = true;
    memoryBatch(() => root.add(0xc000, leaf('other')));
    t.deepEqual(listener.take(), [], 'nothing before the end of the outermost batch');
  });
  t.deepEqual(listener.take(), ['-bar[9000+1000]', '+bar[a000+1000]', '+other[c000+1000]', 'commit']);
  memoryBatch(() => {
    root.remove(bar);
    root.add(0xa000, bar);
  });
  t.deepEqual(listener.take(), []);
});

test('a batch that throws shows what it did', t => {
  const { root, listener } = machine();
  listener.take();
  const failure = t.throws(() =>
    memoryBatch(() => {
      root.add(0x9000, leaf('bar'));
      throw new Error('halfway');
    }),
  );
  t.is(failure?.message, 'halfway');
  t.deepEqual(listener.take(), ['+bar[9000+1000]', 'commit']);
  root.add(0xb000, leaf('next'));
  t.deepEqual(listener.take(), ['+next[b000+1000]', 'commit'], 'the batch is over');
});

test('all address spaces have their new maps before any listener is called', t => {
  const { root } = machine();
  const one = new AddressSpace('one', root);
  const two = new AddressSpace('two', root);
  const seen: number[] = [];
  one.listen({ regionAdd: () => seen.push(two.sections().length), regionRemove: () => undefined });
  two.listen({ regionAdd: () => seen.push(one.sections().length), regionRemove: () => undefined });
  seen.length = 0;
  root.add(0x9000, leaf('bar'));
  t.deepEqual(seen, [2, 2]);
});

test('a listener may change the tree: that is the next round', t => {
  const { root, space, listener } = machine();
  const first = leaf('first');
  const second = leaf('second');
  space.listen({
    regionAdd: section => {
      if (section.region === first) root.add(0xc000, second);
    },
    regionRemove: () => undefined,
  });
  listener.take();
  root.add(0x9000, first);
  t.deepEqual(listener.take(), ['+first[9000+1000]', 'commit', '+second[c000+1000]', 'commit']);
});

test('a listener that throws does not keep the others from being told', t => {
  const { root } = machine();
  const one = new AddressSpace('one', root);
  const two = new AddressSpace('two', root);
  const listener = recorder();
  one.listen({
    regionAdd: ({ region }) => {
      if (region.name === 'bar') throw new Error('no room at the host');
    },
    regionRemove: () => undefined,
  });
  two.listen(listener);
  listener.take();
  t.throws(() => root.add(0x9000, leaf('bar')), { message: 'no room at the host' });
  t.deepEqual(listener.take(), ['+bar[9000+1000]', 'commit']);
});

test('unregistered, a listener sees all sections vanish, and nothing after', t => {
  const { root, listener, registration } = machine();
  root.add(0x9000, leaf('bar'));
  listener.take();
  registration[Symbol.dispose]();
  t.deepEqual(listener.take(), ['-ram[0+8000]', '-bar[9000+1000]', 'commit']);
  registration[Symbol.dispose]();
  root.add(0xb000, leaf('next'));
  t.deepEqual(listener.take(), []);
});

test('an address space that is disposed of answers nothing and follows nothing', t => {
  const { root, space, listener } = machine();
  listener.take();
  space[Symbol.dispose]();
  t.deepEqual(listener.take(), ['-ram[0+8000]', 'commit']);
  root.add(0x9000, leaf('bar'));
  t.deepEqual(space.sections(), []);
  t.deepEqual(listener.take(), []);
});
