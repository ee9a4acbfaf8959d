import test from 'ava';
import { MemTx } from './memtx.js';
import { PAGE_BYTES, Ram } from './ram.js';

const CHUNK = 64 * 2 ** 20;

test('fresh RAM is zero', t => {
  const ram = Ram.allocate(0x2000);
  const out = new Uint8Array(16).fill(1);
  t.is(ram.read(0, 0xff8, out), MemTx.OK);
  t.deepEqual([...out], new Array(16).fill(0));
  const words = Int32Array.of(1, 1);
  t.is(ram.load(0, 0xffc, words, 0, 2), MemTx.OK);
  t.deepEqual([...words], [0, 0]);
});

test('bytes and dwords are the same memory, little-endian', t => {
  const ram = Ram.allocate(0x1000);
  ram.store(0, 8, Int32Array.of(0x04030201, -1), 0, 2);
  const out = new Uint8Array(6);
  ram.read(0, 8, out);
  t.deepEqual([...out], [1, 2, 3, 4, 0xff, 0xff]);
});

test('transfers across pages and across chunks', t => {
  const ram = Ram.allocate(2 * CHUNK);
  const data = Uint8Array.from({ length: 0x2010 }, (_, index) => index * 7);
  t.is(ram.write(0, CHUNK - 0x1008, data), MemTx.OK);
  const out = new Uint8Array(data.length);
  t.is(ram.read(0, CHUNK - 0x1008, out), MemTx.OK);
  t.deepEqual(out, data);
  const words = new Int32Array(4);
  t.is(ram.load(0, CHUNK - 8, words, 0, 4), MemTx.OK);
  t.deepEqual(new Uint8Array(words.buffer), data.subarray(0x1000, 0x1010));
});

test('a transfer past the end changes nothing', t => {
  const ram = Ram.allocate(0x1000);
  t.is(ram.write(0, 0xffe, Uint8Array.of(1, 2, 3)), MemTx.DECODE_ERROR);
  t.is(ram.store(0, 0xffc, Int32Array.of(1, 2), 0, 2), MemTx.DECODE_ERROR);
  t.is(ram.load(0, 0xffc, new Int32Array(2), 0, 2), MemTx.DECODE_ERROR);
  t.is(ram.read(1, 0, new Uint8Array(1)), MemTx.DECODE_ERROR);
  t.is(ram.read(-1, -1, new Uint8Array(1)), MemTx.DECODE_ERROR);
  const out = new Uint8Array(2);
  t.is(ram.read(0, 0xffe, out), MemTx.OK);
  t.deepEqual([...out], [0, 0]);
});

test('a view scatters its frames over the block', t => {
  const ram = Ram.allocate(0x4000);
  const view = ram.view(Int32Array.of(3, 1));
  t.is(view.size, 0x2000);
  t.is(view.backing(0), 3);
  view.write(0, 0xffe, Uint8Array.of(1, 2, 3, 4));
  const out = new Uint8Array(2);
  ram.read(0, 0x3ffe, out);
  t.deepEqual([...out], [1, 2]);
  ram.read(0, 0x1000, out);
  t.deepEqual([...out], [3, 4]);
});

test('the table of a view is read at each access', t => {
  const ram = Ram.allocate(0x2000);
  const table = Int32Array.of(0);
  const view = ram.view(table);
  ram.write(0, 0x1000, Uint8Array.of(42));
  table[0] = 1;
  const out = new Uint8Array(1);
  view.read(0, 0, out);
  t.deepEqual([...out], [42]);
});

test('a hole in a view answers nothing, and a write into it writes nothing before it', t => {
  const ram = Ram.allocate(0x2000);
  const view = ram.view(Int32Array.of(1, -1));
  t.is(view.read(0, 0x1000, new Uint8Array(1)), MemTx.DECODE_ERROR);
  t.is(view.load(0, 0x1000, new Int32Array(1), 0, 1), MemTx.DECODE_ERROR);
  t.is(view.write(0, 0xfff, Uint8Array.of(1, 2)), MemTx.DECODE_ERROR);
  t.is(view.store(0, 0xffc, Int32Array.of(1, 2), 0, 2), MemTx.DECODE_ERROR);
  const out = new Uint8Array(4);
  ram.read(0, 0x1ffc, out);
  t.deepEqual([...out], [0, 0, 0, 0]);
});

test('what is no size of RAM is refused', t => {
  for (const size of [0, -4096, 4095, 2 ** 43, NaN]) t.throws(() => Ram.allocate(size), { instanceOf: RangeError });
  t.throws(() => Ram.allocate(0x1000).view(Int32Array.of(0)).view(Int32Array.of(0)), { message: /view of a view/ });
});

test('a page is zero until a bit of it is not, and again when that is cleared; a hole is', t => {
  const ram = Ram.allocate(0x100_0000);
  const scattered = ram.view(Int32Array.of(7, -1, 3000));
  t.deepEqual([ram.isZero(7), scattered.isZero(0), scattered.isZero(1)], [true, true, true]);
  ram.write(0, 8 * PAGE_BYTES - 1, Uint8Array.of(0x80));
  t.deepEqual([ram.isZero(6), ram.isZero(7), ram.isZero(8), scattered.isZero(0)], [true, false, true, false]);
  scattered.write(0, 2 * PAGE_BYTES, Uint8Array.of(1));
  t.deepEqual([ram.isZero(3000), ram.isZero(2999)], [false, true]);
  ram.write(0, 8 * PAGE_BYTES - 1, Uint8Array.of(0));
  t.true(ram.isZero(7));
});

test('a block over memory of others has their bytes, in pieces of 64 MiB', t => {
  const asked: [number, number][] = [];
  const pieces: ArrayBuffer[] = [];
  const ram = Ram.over(0x400_3000, (offset, length) => {
    asked.push([offset, length]);
    const piece = new ArrayBuffer(length);
    pieces.push(piece);
    return piece;
  });
  t.deepEqual(asked, [
    [0, 0x400_0000],
    [0x400_0000, 0x3000],
  ]);
  t.is(ram.size, 0x400_3000);
  t.is(ram.write(0, 0x3ff_fffe, Uint8Array.of(1, 2, 3, 4)), MemTx.OK);
  t.deepEqual([...new Uint8Array(pieces[0]!, 0x3ff_fffe)], [1, 2]);
  t.deepEqual([...new Uint8Array(pieces[1]!, 0, 3)], [3, 4, 0]);
  new Uint8Array(pieces[1]!)[0x2fff] = 9;
  const last = new Uint8Array(1);
  t.is(ram.read(0, 0x400_2fff, last), MemTx.OK);
  t.is(last[0], 9);
  t.is(ram.read(0, 0x400_3000, last), MemTx.DECODE_ERROR);
});
