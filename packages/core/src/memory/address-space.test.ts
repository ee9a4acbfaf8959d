import test from 'ava';
import { AddressSpace } from './address-space.js';
import { MemTx } from './memtx.js';
import { Ram } from './ram.js';
import { Region, WHOLE_SPACE } from './region.js';

const GiB = 2 ** 30;
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

/** RAM at 0 and, behind a hole of one page, other RAM at 0x3000; ROM at 0x8000. */
function small() {
  const low = Ram.allocate(0x2000);
  const high = Ram.allocate(0x2000);
  const rom = Ram.allocate(0x1000);
  const root = Region.container('root', WHOLE_SPACE);
  root.add(0, Region.ram('low', low));
  root.add(0x3000, Region.ram('high', high));
  root.add(0x8000, Region.ram('rom', rom, { readonly: true }));
  return { space: new AddressSpace('as', root), root, low, high, rom };
}

function at(ram: Ram, address: number, count: number): number[] {
  const out = new Uint8Array(count);
  ram.read(0, address, out);
  return [...out];
}

test('reads and writes at any byte', t => {
  const { space, high } = small();
  t.is(space.write(0, 0x3ffe, bytes(1, 2, 3, 4)), MemTx.OK);
  t.deepEqual(at(high, 0xffe, 4), [1, 2, 3, 4]);
  const out = new Uint8Array(3);
  t.is(space.read(0, 0x3fff, out), MemTx.OK);
  t.deepEqual([...out], [2, 3, 4]);
});

test('loads and stores dwords', t => {
  const { space } = small();
  t.is(space.store(0, 0x3010, Int32Array.of(9, -2, 3), 1, 2), MemTx.OK);
  const out = new Int32Array(4);
  t.is(space.load(0, 0x3010, out, 2, 2), MemTx.OK);
  t.deepEqual([...out], [0, 0, -2, 3]);
});

test('a transfer across two regions goes to both', t => {
  const { space, root, low } = small();
  const next = Ram.allocate(0x1000);
  root.add(0x2000, Region.ram('next', next));
  t.is(space.write(0, 0x1ffe, bytes(1, 2, 3, 4)), MemTx.OK);
  t.deepEqual(at(low, 0x1ffe, 2), [1, 2]);
  t.deepEqual(at(next, 0, 2), [3, 4]);
  t.is(space.store(0, 0x1ffc, Int32Array.of(7, 8), 0, 2), MemTx.OK);
  const out = new Int32Array(2);
  t.is(space.load(0, 0x1ffc, out, 0, 2), MemTx.OK);
  t.deepEqual([...out], [7, 8]);
});

test('a transfer into a hole fails there, and what came before is done', t => {
  const { space, low } = small();
  t.is(space.write(0, 0x1ffe, bytes(1, 2, 3)), MemTx.DECODE_ERROR);
  t.deepEqual(at(low, 0x1ffe, 2), [1, 2]);
  t.is(space.read(0, 0x1fff, new Uint8Array(2)), MemTx.DECODE_ERROR);
  t.is(space.load(0, 0x1ffc, new Int32Array(2), 0, 2), MemTx.DECODE_ERROR);
});

test('where nothing is, nothing answers', t => {
  const { space } = small();
  t.is(space.read(0, 0x2000, new Uint8Array(1)), MemTx.DECODE_ERROR);
  t.is(space.load(0, 0x9000, new Int32Array(1), 0, 1), MemTx.DECODE_ERROR);
  t.is(space.store(7, 0, new Int32Array(1), 0, 1), MemTx.DECODE_ERROR);
  const nothing = new AddressSpace('nothing', Region.container('empty', WHOLE_SPACE));
  t.is(nothing.load(0, 0, new Int32Array(1), 0, 1), MemTx.DECODE_ERROR);
  t.is(nothing.write(0, 0, bytes(1)), MemTx.DECODE_ERROR);
});

test('a transfer of no bytes succeeds anywhere', t => {
  t.is(small().space.read(-1, -1, new Uint8Array(0)), MemTx.OK);
});

test('dwords at addresses that are not multiples of four', t => {
  const { space } = small();
  t.is(space.write(0, 0x101, bytes(1, 2, 3, 4)), MemTx.OK);
  const out = new Int32Array(1);
  t.is(space.load(0, 0x101, out, 0, 1), MemTx.OK);
  t.is(out[0], 0x04030201);
});

test('addresses from 2^53 on do not fall back on lower ones', t => {
  const { space } = small();
  for (const [hi, lo] of [
    [0x20_0000, 0],
    [0x20_0000, 1],
    [0x8000_0000, 0],
    [-1, -4],
    [-1, -1],
  ] as const) {
    t.is(space.read(hi, lo, new Uint8Array(8)), MemTx.DECODE_ERROR);
    t.is(space.write(hi, lo, new Uint8Array(8)), MemTx.DECODE_ERROR);
    t.is(space.load(hi, lo, new Int32Array(1), 0, 1), MemTx.DECODE_ERROR);
    t.is(space.store(hi, lo, Int32Array.of(-1), 0, 1), MemTx.DECODE_ERROR);
  }
});

test('ROM can be read, and refuses writes', t => {
  const { space, rom } = small();
  rom.write(0, 0, bytes(0x55, 0xaa));
  const out = new Uint8Array(2);
  t.is(space.read(0, 0x8000, out), MemTx.OK);
  t.deepEqual([...out], [0x55, 0xaa]);
  t.is(space.write(0, 0x8000, bytes(1)), MemTx.DECODE_ERROR);
  t.is(space.store(0, 0x8000, Int32Array.of(1), 0, 1), MemTx.DECODE_ERROR);
  t.deepEqual(at(rom, 0, 2), [0x55, 0xaa]);
  t.deepEqual(
    space.sections().map(({ region, readonly }) => [region.name, readonly]),
    [
      ['low', false],
      ['high', false],
      ['rom', true],
    ],
  );
});

test('the cached section is forgotten when the map changes', t => {
  const { space, root, low } = small();
  const out = new Int32Array(1);
  t.is(space.load(0, 0, out, 0, 1), MemTx.OK);
  const [child] = root.children.filter(({ region }) => region.ram === low);
  root.remove(child!.region);
  t.is(space.load(0, 0, out, 0, 1), MemTx.DECODE_ERROR);
  t.is(space.load(0, 0x3000, out, 0, 1), MemTx.OK);
});

test('a device that changes the map during a transfer: the rest follows the new map', t => {
  const after = Ram.allocate(0x1000);
  const root = Region.container('root', 0x4000);
  const hidden = Region.ram('after', after);
  hidden.enabled = false;
  root.add(0x1000, hidden);
  root.add(0, Region.mmio('switch', 0x1000, { read: () => 0, write: () => (hidden.enabled = true) }));
  const space = new AddressSpace('as', root);
  t.is(space.write(0, 0xffc, bytes(0, 0, 0, 0, 5, 6)), MemTx.OK);
  t.deepEqual(at(after, 0, 2), [5, 6]);
});

test("64 GiB of RAM around q35's hole: a few pages are touched, and few are backed", t => {
  const ram = Ram.allocate(64 * GiB);
  const all = Region.ram('pc.ram', ram);
  const root = Region.container('system', WHOLE_SPACE);
  root.add(0, Region.alias('ram-below-4g', all, 0, 2 * GiB));
  root.add(4 * GiB, Region.alias('ram-above-4g', all, 2 * GiB, 62 * GiB));
  const space = new AddressSpace('memory', root);
  t.deepEqual(
    space.sections().map(({ start, size, offset }) => [start / GiB, size / GiB, offset / GiB]),
    [
      [0, 2, 0],
      [4, 62, 2],
    ],
  );
  const before = process.memoryUsage().arrayBuffers;
  const touched = [0, 2 * GiB - 4096, 4 * GiB, 7 * GiB + 12, 66 * GiB - 16];
  for (const [index, address] of touched.entries()) {
    t.is(space.store(Math.floor(address / 2 ** 32), address >>> 0, Int32Array.of(index + 1), 0, 1), MemTx.OK);
  }
  const out = new Int32Array(1);
  for (const [index, address] of touched.entries()) {
    const offset = address < 4 * GiB ? address : address - 2 * GiB;
    t.is(ram.load(Math.floor(offset / 2 ** 32), offset >>> 0, out, 0, 1), MemTx.OK);
    t.is(out[0], index + 1, `in the block at ${offset.toString(16)}`);
    t.is(space.load(Math.floor(address / 2 ** 32), address >>> 0, out, 0, 1), MemTx.OK);
    t.is(out[0], index + 1);
  }
  t.true(process.memoryUsage().arrayBuffers - before <= touched.length * 64 * 2 ** 20, 'a chunk for each page at most');
  t.is(space.load(0, 2 * GiB, out, 0, 1), MemTx.DECODE_ERROR, 'the hole');
  t.is(space.load(16, 2 * GiB, out, 0, 1), MemTx.DECODE_ERROR, 'behind the end');
  t.is(space.write(0, 2 * GiB - 2, bytes(1, 2, 3)), MemTx.DECODE_ERROR, 'into the hole');
  t.is(space.read(0x10, 0x7fff_ffff, new Uint8Array(2)), MemTx.DECODE_ERROR, 'past the end');
});

test('loads of words see the map as it is now, and each edge of RAM', t => {
  const root = Region.container('root', 2 ** 40);
  const space = new AddressSpace('space', root);
  const first = Ram.allocate(0x3000);
  // Frame 1 of the view is a hole, frame 2 is frame 0 of the block.
  const view = Region.ram('view', first.view(Int32Array.of(1, -1, 0)));
  const other = Region.ram('other', Ram.allocate(0x3000));
  first.store(0, 0, Int32Array.of(11, 12, 13), 0, 3);
  first.store(0, 0x1ff8, Int32Array.of(21, 22), 0, 2);
  root.add(0x10_0000, view);
  const out = new Int32Array(4);
  const load = (lo: number, count: number, hi = 0): unknown => {
    out.fill(-1);
    const result = space.load(hi, lo, out, 1, count);
    return result === MemTx.OK ? [...out.subarray(1, 1 + count)] : result;
  };
  for (let again = 0; again < 2; again++) {
    t.deepEqual(load(0x10_2000, 3), [11, 12, 13]);
    t.deepEqual(load(0x10_2004, 2), [12, 13]);
    t.deepEqual(load(0x10_0ff8, 2), [21, 22]);
    t.deepEqual(load(0x10_2100, 2), [0, 0]);
    t.is(load(0x10_0ffc, 2), MemTx.DECODE_ERROR, 'into the hole');
    t.is(load(0x10_1000, 2), MemTx.DECODE_ERROR, 'the hole');
    t.is(load(0x10_2ffc, 2), MemTx.DECODE_ERROR, 'over the end');
    t.is(load(0x0f_fffc, 2), MemTx.DECODE_ERROR, 'before the start');
    t.is(load(0x10_2000, 2, 0x800), MemTx.DECODE_ERROR, 'the same low bits, far above');
    t.is(load(0x10_2000, 2, -1), MemTx.DECODE_ERROR);
  }
  root.remove(view);
  t.is(load(0x10_2000, 2), MemTx.DECODE_ERROR);
  root.add(0x10_0000, other);
  t.deepEqual(load(0x10_2000, 2), [0, 0]);
  // RAM that starts within a page.
  root.remove(other);
  root.add(0x10_0800, view);
  t.deepEqual(load(0x10_2800, 3), [11, 12, 13]);
  t.deepEqual(load(0x10_2804, 2), [12, 13]);
});

test('stores of words see the map as it is now, ROM and each edge of RAM', t => {
  const root = Region.container('root', 2 ** 40);
  const space = new AddressSpace('space', root);
  const block = Ram.allocate(0x3000);
  const view = Region.ram('view', block.view(Int32Array.of(1, -1, 0)));
  root.add(0x10_0000, view);
  const rom = Region.ram('rom', block, { readonly: true });
  root.add(0x20_0000, rom);
  const store = (lo: number, hi = 0): MemTx => space.store(hi, lo, Int32Array.of(0, 7, 8), 1, 2);
  const load = (ram: Ram, lo: number): number[] => {
    const out = new Int32Array(3);
    ram.load(0, lo, out, 0, 3);
    return [...out];
  };
  for (let again = 0; again < 2; again++) {
    t.is(store(0x10_2004), MemTx.OK);
    t.deepEqual(load(block, 0), [0, 7, 8]);
    t.is(store(0x10_0ff4), MemTx.OK);
    t.deepEqual(load(block, 0x1ff4), [7, 8, 0]);
    t.is(store(0x10_0ffc), MemTx.DECODE_ERROR, 'into the hole');
    t.is(store(0x10_1000), MemTx.DECODE_ERROR, 'the hole');
    t.is(store(0x10_2ffc), MemTx.DECODE_ERROR, 'over the end');
    t.is(store(0x10_2004, 0x800), MemTx.DECODE_ERROR, 'the same low bits, far above');
    t.is(space.load(0, 0x20_2000, new Int32Array(2), 0, 2), MemTx.OK);
    t.is(store(0x20_2000), MemTx.DECODE_ERROR, 'ROM, which was read just now');
    t.deepEqual(load(block, 0x2000), [0, 0, 0]);
  }
  t.deepEqual(load(block, 0x1ffc), [0, 0, 0], 'nothing of what was refused');
  root.remove(view);
  t.is(store(0x10_2004), MemTx.DECODE_ERROR);
  const other = Ram.allocate(0x3000);
  root.add(0x10_0000, Region.ram('other', other));
  t.is(store(0x10_2000), MemTx.OK);
  t.deepEqual(load(other, 0x2000), [7, 8, 0]);
});

test('a port region hands every access on whole, at its offset in the region', t => {
  const root = Region.container('root', 2 ** 40);
  const ram = Ram.allocate(0x3000);
  root.add(2 ** 33, Region.port('elsewhere', 0x2000, ram));
  const space = new AddressSpace('as', root);
  const bytes = Uint8Array.from({ length: 0x1004 }, (_, index) => index * 3);
  t.is(space.write(2, 0x0ffc, bytes), MemTx.OK);
  const out = new Uint8Array(bytes.length);
  t.is(ram.read(0, 0x0ffc, out), MemTx.OK);
  t.deepEqual(out, bytes);
  const words = Int32Array.of(0, 0);
  t.is(space.store(2, 0x20, Int32Array.of(1, -2), 0, 2), MemTx.OK);
  t.is(space.load(2, 0x20, words, 0, 2), MemTx.OK);
  t.deepEqual([...words], [1, -2]);
  t.is(space.write(2, 0x1ffe, Uint8Array.of(1, 2, 3)), MemTx.DECODE_ERROR, 'it ends where the region ends');
  t.is(ram.read(0, 0x1ffe, out.subarray(0, 4)), MemTx.OK);
  t.deepEqual([...out.subarray(0, 4)], [1, 2, 0, 0]);
});
