/**
 * 64-bit values as two 32-bit words.
 *
 * Everywhere in Remora a 64-bit address or register that is on a hot path travels as a pair `(hi, lo)`. Both are 32-bit
 * integers of either sign: only their bits count. A result is normalised with `>>> 0` where it is compared or printed.
 * BigInt appears at the edges only: parsing, messages, tests, inspection.
 */

/** A 64-bit value as people write it: a number below 2^53, or a BigInt. */
export type Wide = number | bigint;

const TWO_32 = 0x1_0000_0000;

/** The high 32 bits of `value`, unsigned. @throws RangeError unless `value` is an integer in [0, 2^64). */
export function hiOf(value: Wide): number {
  if (typeof value === 'bigint') {
    if (value < 0n || value >> 64n !== 0n) throw new RangeError(`not a 64-bit value: ${value}`);
    return Number(value >> 32n);
  }
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a 64-bit value: ${value}`);
  return Math.floor(value / TWO_32);
}

/** The low 32 bits of `value`, unsigned. @throws RangeError unless `value` is an integer in [0, 2^64). */
export function loOf(value: Wide): number {
  if (typeof value === 'bigint') return Number(BigInt.asUintN(32, value));
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a 64-bit value: ${value}`);
  return value % TWO_32;
}

/** `(hi, lo)` as a BigInt in [0, 2^64). For edges only. */
export function bigOf(hi: number, lo: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}

/** `(hi, lo)` as a number: exact below 2^53, rounded (but still at or above 2^53) beyond. */
export function numberOf(hi: number, lo: number): number {
  return (hi >>> 0) * TWO_32 + (lo >>> 0);
}

/** The page frame number of `(hi, lo)`: bits 63:12, exact (it has 52 bits). */
export function frameOf(hi: number, lo: number): number {
  return (hi >>> 0) * 0x10_0000 + (lo >>> 12);
}

/** The high word of the byte address of page frame `frame`. */
export function frameHi(frame: number): number {
  return Math.floor(frame / 0x10_0000);
}

/** The low word of the byte address of page frame `frame`. */
export function frameLo(frame: number): number {
  // A shift takes the number modulo 2^32, however large it is; a remainder of doubles is a call.
  return (frame << 12) >>> 0;
}

/** Whether `(hi, lo)` is a multiple of `2 ** shift`; `shift` is 0 .. 64. */
export function isAligned(hi: number, lo: number, shift: number): boolean {
  const lowMask = shift >= 32 ? -1 : (1 << shift) - 1;
  const highMask = shift >= 64 ? -1 : shift > 32 ? (1 << (shift - 32)) - 1 : 0;
  return (lo & lowMask) === 0 && (hi & highMask) === 0;
}

/** `(hi, lo)` in hexadecimal, without leading zeros: `0x1234`. For messages. */
export function hex(hi: number, lo: number): string {
  const high = hi >>> 0;
  const low = (lo >>> 0).toString(16);
  return high === 0 ? `0x${low}` : `0x${high.toString(16)}${low.padStart(8, '0')}`;
}
