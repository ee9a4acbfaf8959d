import { PAGE_BYTES } from '@remora/core';

const TWO_32 = 0x1_0000_0000;

/** A byte address that advances; two words, so that all 64 bits are exact. */
export class Cursor {
  hi = 0;
  lo = 0;

  set(hi: number, lo: number): void {
    this.hi = hi >>> 0;
    this.lo = lo >>> 0;
  }

  advance(bytes: number): void {
    const next = this.lo + bytes;
    this.lo = next % TWO_32;
    if (next >= TWO_32) this.hi += 1;
  }

  /** Bytes up to the end of the page. */
  get left(): number {
    return PAGE_BYTES - (this.lo % PAGE_BYTES);
  }

  /** Whether `bytes` bytes from here end at or below 2^64. */
  holds(bytes: number): boolean {
    return this.hi < 0xffff_ffff || this.lo + bytes <= TWO_32;
  }
}
