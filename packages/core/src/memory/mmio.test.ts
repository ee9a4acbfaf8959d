import test from 'ava';
import { AddressSpace } from './address-space.js';
import { MemTx, TxAttrs } from './memtx.js';
import type { MmioOps } from './mmio.js';
import { Region } from './region.js';

/** Registers that keep what is written, and a log of the accesses that the device saw. */
function device(sizes: Pick<MmioOps, 'valid' | 'impl' | 'reentrant'>) {
  const bytes = new DataView(new ArrayBuffer(0x100));
  const seen: string[] = [];
  for (let i = 0; i < 0x100; i++) bytes.setUint8(i, i);
  const hex = (value: number): string => value.toString(16);
  const ops: MmioOps = {
    ...sizes,
    read(offset, size) {
      seen.push(`r${size}@${hex(offset)}`);
      return size === 4
        ? bytes.getInt32(offset, true)
        : size === 2
          ? bytes.getUint16(offset, true)
          : bytes.getUint8(offset);
    },
    write(offset, value, size) {
      seen.push(`w${size}@${hex(offset)}=${hex(value)}`);
      if (size === 4) bytes.setUint32(offset, value, true);
      else if (size === 2) bytes.setUint16(offset, value, true);
      else bytes.setUint8(offset, value);
    },
    read64(offset, out) {
      seen.push(`r8@${hex(offset)}`);
      out[0] = bytes.getInt32(offset, true);
      out[1] = bytes.getInt32(offset + 4, true);
    },
    write64(offset, hi, lo) {
      seen.push(`w8@${hex(offset)}=${hex(hi)}:${hex(lo)}`);
      bytes.setUint32(offset, lo, true);
      bytes.setUint32(offset + 4, hi, true);
    },
  };
  const root = Region.container('root', 0x1000);
  root.add(0, Region.mmio('device', 0x100, ops));
  const space = new AddressSpace('as', root);
  const read = (at: number, count: number) => {
    seen.length = 0;
    const out = new Uint8Array(count);
    const result = space.read(0, at, out);
    return { result, bytes: [...out], seen: [...seen] };
  };
  const write = (at: number, ...values: number[]) => {
    seen.length = 0;
    return { result: space.write(0, at, Uint8Array.from(values)), seen: [...seen] };
  };
  const stored = (at: number, count: number) => [...new Uint8Array(bytes.buffer, at, count)];
  return { space, read, write, stored };
}

test('an access that the device implements reaches it as it is', t => {
  const { read, write } = device({ impl: { min: 1, max: 8 } });
  t.deepEqual(read(3, 1), { result: MemTx.OK, bytes: [3], seen: ['r1@3'] });
  t.deepEqual(read(6, 2), { result: MemTx.OK, bytes: [6, 7], seen: ['r2@6'] });
  t.deepEqual(read(8, 4), { result: MemTx.OK, bytes: [8, 9, 10, 11], seen: ['r4@8'] });
  t.deepEqual(read(0x10, 8).seen, ['r8@10']);
  t.deepEqual(write(0x10, 0, 1, 2, 3, 4, 5, 6, 0x87), { result: MemTx.OK, seen: ['w8@10=87060504:3020100'] });
  t.deepEqual(write(4, 0xff, 0xff, 0xff, 0xff).seen, ['w4@4=ffffffff']);
});

test('an 8-byte access to 4-byte registers: the low dword first', t => {
  const { read, write } = device({});
  t.deepEqual(read(8, 8), { result: MemTx.OK, bytes: [8, 9, 10, 11, 12, 13, 14, 15], seen: ['r4@8', 'r4@c'] });
  t.deepEqual(write(8, 1, 0, 0, 0, 2, 0, 0, 0), { result: MemTx.OK, seen: ['w4@8=1', 'w4@c=2'] });
});

test('a 4-byte access to 1-byte registers becomes four', t => {
  const { read, write } = device({ impl: { min: 1, max: 1 } });
  t.deepEqual(read(4, 4), { result: MemTx.OK, bytes: [4, 5, 6, 7], seen: ['r1@4', 'r1@5', 'r1@6', 'r1@7'] });
  t.deepEqual(write(4, 9, 8, 7, 6).seen, ['w1@4=9', 'w1@5=8', 'w1@6=7', 'w1@7=6']);
});

test('a read that is smaller than the registers is widened', t => {
  const { read } = device({});
  t.deepEqual(read(6, 2), { result: MemTx.OK, bytes: [6, 7], seen: ['r4@4'] });
  t.deepEqual(read(5, 1), { result: MemTx.OK, bytes: [5], seen: ['r4@4'] });
});

test('a write that is smaller than the registers reads, modifies and writes', t => {
  const { write, stored } = device({});
  t.deepEqual(write(6, 0xaa, 0xbb), { result: MemTx.OK, seen: ['r4@4', 'w4@4=bbaa0504'] });
  t.deepEqual(stored(4, 4), [4, 5, 0xaa, 0xbb]);
});

test('8-byte registers: smaller accesses are widened to 8', t => {
  const { read, write, stored } = device({ impl: { min: 8, max: 8 } });
  t.deepEqual(read(0x0c, 4), { result: MemTx.OK, bytes: [12, 13, 14, 15], seen: ['r8@8'] });
  t.deepEqual(write(0x0e, 0x55), { result: MemTx.OK, seen: ['r8@8', 'w8@8=f550d0c:b0a0908'] });
  t.deepEqual(stored(8, 8), [8, 9, 10, 11, 12, 13, 0x55, 15]);
});

test('sizes that the device does not accept answer DECODE_ERROR, and the device sees nothing', t => {
  const { read, write } = device({ valid: { min: 4, max: 4 } });
  t.is(read(0, 4).result, MemTx.OK);
  t.deepEqual(read(0, 2), { result: MemTx.DECODE_ERROR, bytes: [0, 0], seen: [] });
  t.deepEqual(write(0, 1), { result: MemTx.DECODE_ERROR, seen: [] });
  t.deepEqual(read(2, 4).seen, [], 'an unaligned dword is no dword');
  t.deepEqual(read(2, 4).result, MemTx.DECODE_ERROR);
});

test('a transfer is cut to what the device accepts at most', t => {
  const { read } = device({ valid: { min: 4, max: 4 }, impl: { min: 4, max: 8 } });
  t.deepEqual(read(0, 8).seen, ['r4@0', 'r4@4']);
});

test('an unaligned transfer is cut into aligned accesses', t => {
  const { read } = device({ impl: { min: 1, max: 4 } });
  t.deepEqual(read(3, 4), { result: MemTx.OK, bytes: [3, 4, 5, 6], seen: ['r1@3', 'r2@4', 'r1@6'] });
});

test('a device that accepts unaligned accesses still sees aligned ones', t => {
  const strict = device({ valid: { min: 4, max: 4, unaligned: true } });
  t.deepEqual(strict.read(2, 4), { result: MemTx.OK, bytes: [2, 3, 4, 5], seen: ['r4@0', 'r4@4'] });
  t.deepEqual(strict.write(2, 0xa, 0xb, 0xc, 0xd).result, MemTx.OK);
  t.deepEqual(strict.stored(0, 8), [0, 1, 0xa, 0xb, 0xc, 0xd, 6, 7]);
  t.is(strict.read(2, 2).result, MemTx.DECODE_ERROR, 'two bytes are not accepted, aligned or not');
  const fine = device({ valid: { min: 1, max: 4, unaligned: true }, impl: { min: 1, max: 4 } });
  t.deepEqual(fine.read(3, 4), { result: MemTx.OK, bytes: [3, 4, 5, 6], seen: ['r1@3', 'r2@4', 'r1@6'] });
});

test('a transfer ends at the first piece that is refused; what came before is done', t => {
  const { write, stored } = device({ valid: { min: 4, max: 4 } });
  t.deepEqual(write(8, 1, 2, 3, 4, 5, 6), { result: MemTx.DECODE_ERROR, seen: ['w4@8=4030201'] });
  t.deepEqual(stored(8, 6), [1, 2, 3, 4, 12, 13]);
});

test('load and store reach registers, too', t => {
  const { space, stored } = device({});
  const words = new Int32Array(3);
  t.is(space.load(0, 4, words, 1, 2), MemTx.OK);
  t.deepEqual([...words], [0, 0x07060504, 0x0b0a0908]);
  t.is(space.store(0, 0x10, words, 1, 1), MemTx.OK);
  t.deepEqual(stored(0x10, 4), [4, 5, 6, 7]);
});

test('who asks is told to the device', t => {
  const seen: TxAttrs[] = [];
  const read = (_offset: number, _size: number, attrs: TxAttrs): number => (seen.push(attrs), 0);
  const space = new AddressSpace('as', Region.mmio('device', 0x100, { read, write: () => undefined }));
  const attrs = new TxAttrs();
  attrs.requesterId = 0x18;
  space.readAs(0, 0, new Uint8Array(4), attrs);
  t.is(seen[0], attrs);
});

test('an access from inside an access to the same registers is refused, and the outer one goes on', t => {
  const results: MemTx[] = [];
  const write = (): void => void results.push(space.write(0, 0, new Uint8Array(4)));
  const space = new AddressSpace('as', Region.mmio('device', 0x100, { read: () => 0, write }));
  t.is(space.write(0, 0, new Uint8Array(4)), MemTx.OK);
  t.deepEqual(results, [MemTx.ACCESS_ERROR]);
  t.is(space.write(0, 0, new Uint8Array(4)), MemTx.OK, 'the guard opens again');
});

test('a device may allow that, but not without end', t => {
  let entered = 0;
  const ops: MmioOps = {
    reentrant: true,
    read: () => 0,
    write: () => void (entered++, space.write(0, 0, new Uint8Array(4))),
  };
  const space = new AddressSpace('as', Region.mmio('device', 0x100, ops));
  t.is(space.write(0, 0, new Uint8Array(4)), MemTx.OK);
  t.true(entered > 1 && entered < 100, `entered ${entered} times`);
});

test('sizes that make no sense are refused at declaration', t => {
  const ops = { read: () => 0, write: () => undefined };
  const declare = (sizes: Partial<MmioOps>) => () => Region.mmio('device', 0x100, { ...ops, ...sizes });
  t.throws(declare({ valid: { min: 4, max: 2 } }), { message: /device: valid/ });
  t.throws(declare({ impl: { min: 3, max: 4 } }), { message: /device: impl/ });
  t.throws(declare({ impl: { min: 4, max: 8 } }), { message: /needs read64 and write64/ });
});
