/** Arithmetic on (hi, lo) addresses that the walkers share. */
import { INTERRUPT_RANGE_BASE } from '../spec/index.js';

const INTERRUPT_MEGABYTE = INTERRUPT_RANGE_BASE | 0;
const MEGABYTE_MASK = ~0xf_ffff;
/** The interrupt range starts 0xEE megabytes into the fourth gigabyte, so larger pages are compared by their own base. */
const MEGABYTE_SHIFT = 20;

/** Index into a table of `level` (1 .. 5): nine bits of the address. */
export function tableIndex(level: number, hi: number, lo: number): number {
  switch (level) {
    case 1:
      return (lo >>> 12) & 0x1ff;
    case 2:
      return (lo >>> 21) & 0x1ff;
    case 3:
      return ((lo >>> 30) | (hi << 2)) & 0x1ff;
    case 4:
      return (hi >>> 7) & 0x1ff;
    default:
      return (hi >>> 16) & 0x1ff;
  }
}

/** log2 of the bytes that an entry of `level` covers. */
export function levelShift(level: number): number {
  return 3 + 9 * level;
}

/** High word of the mask that clears the low `shift` bits (12 .. 63). */
export function baseMaskHi(shift: number): number {
  return shift > 32 ? -1 << (shift - 32) : -1;
}

/** Low word of the mask that clears the low `shift` bits (12 .. 63). */
export function baseMaskLo(shift: number): number {
  return shift >= 32 ? 0 : -1 << shift;
}

/** Whether all bits from bit `width - 1` (29 .. 56) up are the same. */
export function isCanonical(hi: number, lo: number, width: number): boolean {
  const sign = width > 32 ? hi >> (width - 33) : lo >> (width - 1);
  return (sign === 0 || sign === -1) && (width > 32 || hi === sign);
}

/** High word of the mask of addresses of `width` bits (33 .. 64). */
export function widthMaskHi(width: number): number {
  return width < 64 ? ~(-1 << (width - 32)) : -1;
}

/** Whether the address lies in 0xFEE00000 .. 0xFEEFFFFF. */
export function inInterruptRange(hi: number, lo: number): boolean {
  return hi === 0 && (lo & MEGABYTE_MASK) === INTERRUPT_MEGABYTE;
}

/** Whether the page of `1 << shift` bytes (12 .. 63) that holds the address overlaps the interrupt range. */
export function overlapsInterruptRange(hi: number, lo: number, shift: number): boolean {
  if (shift <= MEGABYTE_SHIFT) return inInterruptRange(hi, lo);
  return (hi & baseMaskHi(shift)) === 0 && (lo & baseMaskLo(shift)) === (INTERRUPT_MEGABYTE & baseMaskLo(shift));
}

/** Whether the address has bits at or above `width` (33 .. 64). */
export function isBeyond(hi: number, width: number): boolean {
  return width < 64 && hi >>> (width - 32) !== 0;
}
