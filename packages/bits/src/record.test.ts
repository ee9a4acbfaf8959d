import test from 'ava';
import { bit, bits, Field, frame, record, wide } from './record.js';

/** A VT-d invalidation wait descriptor: vtd.md has its layout; the bytes below are written out by hand. */
const WaitDescriptor = record('wait-descriptor', 'VT-d 6.5.2.8', 16, {
  type: bits(3, 0),
  interrupt: bit(4),
  statusWrite: bit(5),
  fence: bit(6),
  statusData: bits(63, 32),
  statusAddress: wide(127, 66),
});

/** A second-stage leaf with a frame number of 40 bits. */
const Leaf = record('leaf', 'VT-d 9.8', 8, { read: bit(0), write: bit(1), snoop: bit(11), address: frame(51, 12) });

const words = (bytes: Uint8Array): Int32Array => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const hexBytes = (text: string): Uint8Array => Uint8Array.from(text.split(' '), byte => parseInt(byte, 16));

test('decodes bytes that were written by hand', t => {
  const raw = words(hexBytes('25 00 00 00 78 56 34 92 00 40 cd ab 01 00 00 80'));
  t.deepEqual(WaitDescriptor.decode(raw), {
    type: 5,
    interrupt: 0,
    statusWrite: 1,
    fence: 0,
    statusData: 0x92345678,
    statusAddress: 0x80000001abcd4000n >> 2n,
  });
  t.is(WaitDescriptor.format(raw), 'type=5 statusWrite=1 statusData=0x92345678 statusAddress=0x200000006af35000');
});

test('encodes to these bytes', t => {
  const encoded = WaitDescriptor.encode({
    type: 5,
    statusWrite: 1,
    statusData: 0x92345678,
    statusAddress: 0x80000001abcd4000n >> 2n,
  });
  t.deepEqual(new Uint8Array(encoded.buffer), hexBytes('25 00 00 00 78 56 34 92 00 40 cd ab 01 00 00 80'));
});

test('unclaimed bits are the reserved mask, word by word', t => {
  t.deepEqual([...WaitDescriptor.reserved], [~0x7f, 0, 0x3, 0]);
  const clean = WaitDescriptor.encode({ type: 5 });
  t.false(WaitDescriptor.hasReserved(clean, 0));
  for (const [word, mask] of [
    [0, 0x80],
    [0, 1 << 31],
    [2, 1],
    [2, 2],
  ] as const) {
    const dirty = Int32Array.of(0, ...clean);
    dirty[1 + word]! |= mask;
    t.true(WaitDescriptor.hasReserved(dirty, 1), `word ${word}, mask ${mask}`);
  }
});

test('a bit that is claimed twice is refused when the record is declared', t => {
  t.throws(() => record('r', '', 4, { a: bits(3, 0), b: bit(3) }), {
    instanceOf: RangeError,
    message: 'r.b: bit 3 is claimed twice',
  });
  t.throws(() => record('r', '', 8, { a: bits(31, 0), b: wide(40, 31) }), { message: 'r.b: bit 31 is claimed twice' });
  t.notThrows(() => record('r', '', 4, { a: bits(3, 0), b: bit(4) }));
});

test('fields that cannot be are refused', t => {
  t.throws(() => record('r', '', 4, { a: bit(32) }), { message: 'r.a: bits 32:32 are outside the record' });
  t.throws(() => record('r', '', 4, { a: bits(0, 3) }), { message: /outside the record/ });
  t.throws(() => record('r', '', 8, { a: bits(33, 31) }), { message: 'r.a: bits 33:31 cross a word' });
  t.throws(() => record('r', '', 8, { a: frame(51, 11) }), { message: /a frame starts at bit 12/ });
  t.throws(() => record('r', '', 16, { a: frame(70, 12) }), { message: /a frame starts at bit 12/ });
  t.throws(() => record('r', '', 16, { a: wide(64, 0) }), { message: 'r.a: more than 64 bits' });
  t.throws(() => record('r', '', 6, {}), { message: /not a whole number of words/ });
  t.throws(() => record('r', '', 0, {}), { message: /not a whole number of words/ });
});

test('int fields are unsigned, and setting one leaves the others alone', t => {
  const Word = record('word', '', 8, { low: bits(15, 0), top: bits(31, 16), all: bits(63, 32) });
  const raw = Int32Array.of(9, 0, 0, 9);
  Word.fields.top.set(raw, 1, 0xffff);
  Word.fields.low.set(raw, 1, 0x1_2345);
  Word.fields.all.set(raw, 1, 0xffffffff);
  t.deepEqual([...raw], [9, 0xffff2345 | 0, -1, 9]);
  t.is(Word.fields.top.get(raw, 1), 0xffff);
  t.is(Word.fields.low.get(raw, 1), 0x2345, 'what does not fit is cut off');
  t.is(Word.fields.all.get(raw, 1), 0xffffffff);
});

test('frames are exact numbers', t => {
  const raw = Leaf.encode({ read: 1, address: 0xff_ffff_ffff });
  t.deepEqual([...raw], [0xfffff001 | 0, 0x000fffff]);
  t.is(Leaf.fields.address.frame(raw, 0), 0xff_ffff_ffff);
  t.is(Leaf.decode(raw).address, 0xff_ffff_ffff);
  raw[1] = -1;
  t.is(Leaf.fields.address.frame(raw, 0), 0xff_ffff_ffff, 'bits above it are none of its');
});

test('wide fields cross words', t => {
  const Crossing = record('crossing', '', 16, { before: bits(27, 0), value: wide(91, 28), after: bits(127, 96) });
  const value = 0xfedc_ba98_7654_3210n;
  const raw = Crossing.encode({ before: 0xfffffff, value, after: 0xffffffff });
  t.deepEqual(
    [...raw].map(word => (word >>> 0).toString(16)),
    ['fffffff', '87654321', 'fedcba9', 'ffffffff'],
  );
  t.is(Crossing.fields.value.big(raw, 0), value);
  Crossing.fields.value.setBig(raw, 0, 0n);
  t.deepEqual(Crossing.decode(raw), { before: 0xfffffff, value: 0n, after: 0xffffffff });
});

test('a value that does not fit, or a field that is not there', t => {
  t.throws(() => Leaf.encode({ read: 2 }), { instanceOf: RangeError, message: 'read: 2 does not fit in 1 bits' });
  t.throws(() => Leaf.encode({ address: -1 }), { instanceOf: RangeError });
  t.throws(() => Leaf.encode({ address: 2 ** 40 }), { instanceOf: RangeError });
  t.throws(() => Leaf.encode({ execute: 1 } as object), { message: 'leaf has no field execute' });
});

test('records lie anywhere in an array', t => {
  const raw = new Int32Array(6);
  raw.set(Leaf.encode({ write: 1, address: 0x12345 }), 3);
  t.deepEqual(Leaf.decode(raw, 3), { read: 0, write: 1, snoop: 0, address: 0x12345 });
  t.is(Leaf.format(raw, 3), 'write=1 address=0x12345');
  t.is(Leaf.format(raw, 0), '');
});

test('encode and decode are inverse for every field of 64 random bits', t => {
  for (let lsb = 0; lsb < 64; lsb += 5) {
    for (let msb = lsb; msb < Math.min(128, lsb + 64); msb += 7) {
      const field = new Field('f', wide(msb, lsb));
      const value = BigInt.asUintN(msb - lsb + 1, 0x9e37_79b9_7f4a_7c15n);
      const raw = new Int32Array(4).fill(-1);
      field.setBig(raw, 0, value);
      t.is(field.big(raw, 0), value, `${msb}:${lsb}`);
      field.setBig(raw, 0, BigInt.asUintN(msb - lsb + 1, -1n));
      t.deepEqual([...raw], [-1, -1, -1, -1], `${msb}:${lsb} leaves its neighbours alone`);
    }
  }
});
