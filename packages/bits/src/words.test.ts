import test from 'ava';
import fc from 'fast-check';
import { bigOf, frameHi, frameLo, frameOf, hex, hiOf, isAligned, loOf, numberOf } from './words.js';

test('words of numbers and BigInts', t => {
  t.deepEqual([hiOf(0x12_3456_7890), loOf(0x12_3456_7890)], [0x12, 0x34567890]);
  t.deepEqual([hiOf(2 ** 53 - 1), loOf(2 ** 53 - 1)], [0x1fffff, 0xffffffff]);
  t.deepEqual([hiOf(0xffff_ffff_8000_0001n), loOf(0xffff_ffff_8000_0001n)], [0xffffffff, 0x80000001]);
});

test('what is no 64-bit value is refused', t => {
  for (const value of [-1, 0.5, 2 ** 53, NaN, -1n, 2n ** 64n]) t.throws(() => hiOf(value), { instanceOf: RangeError });
  for (const value of [-1, 0.5, 2 ** 53, NaN]) t.throws(() => loOf(value), { instanceOf: RangeError });
});

test('words of either sign are the same', t => {
  t.is(bigOf(-1, -2), 0xffff_ffff_ffff_fffen);
  t.is(bigOf(0xffffffff, 0xfffffffe), 0xffff_ffff_ffff_fffen);
  t.is(numberOf(0, -1), 0xffffffff);
  t.is(frameOf(0, -1), 0xfffff);
  t.is(frameOf(-1, -1), 2 ** 52 - 1);
});

test('above 2^53 a number rounds, but stays above', t => {
  t.is(numberOf(0x20_0000, 0), 2 ** 53);
  t.true(numberOf(0x20_0000, 1) >= 2 ** 53);
  t.is(numberOf(-1, -1), 2 ** 64);
});

test('words, BigInts and frames convert into each other', t => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), value => {
      const [hi, lo] = [hiOf(value), loOf(value)];
      t.is(bigOf(hi, lo), value);
      t.is(bigOf(hi | 0, lo | 0), value);
      t.is(hex(hi | 0, lo | 0), `0x${value.toString(16)}`);
      const frame = frameOf(hi | 0, lo | 0);
      t.is(BigInt(frame), value >> 12n);
      t.is(bigOf(frameHi(frame), frameLo(frame)), (value >> 12n) << 12n);
    }),
    { seed: 1 },
  );
});

test('alignment, at every power of two', t => {
  for (let shift = 0; shift < 64; shift++) {
    const value = 1n << BigInt(shift);
    for (let asked = 0; asked <= 64; asked++) t.is(isAligned(hiOf(value) | 0, loOf(value) | 0, asked), asked <= shift);
  }
  t.true(isAligned(0, 0, 64));
});

test('hexadecimal without leading zeros', t => {
  t.deepEqual(
    [hex(0, 0), hex(0, 0x1234), hex(1, 0x1234), hex(-1, 0)],
    ['0x0', '0x1234', '0x100001234', '0xffffffff00000000'],
  );
});
