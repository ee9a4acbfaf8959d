import type { MemTx } from './memtx.js';

/**
 * Physical memory as a table walker or a bus master sees it. Addresses are `(hi, lo)` pairs of 32-bit words. Nothing throws
 * for an address that the guest chose.
 */
export interface MemoryPort {
  /**
   * Reads `count` little-endian dwords at the 4-byte-aligned address into `out[at ..]`. Unless the result is MemTx.OK, `out`
   * is unspecified.
   */
  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx;
  /** Writes `count` dwords from `from[at ..]` to the 4-byte-aligned address. */
  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx;
  /** Fills `out` from any byte address. */
  read(hi: number, lo: number, out: Uint8Array): MemTx;
  /** Writes all of `from` to any byte address. */
  write(hi: number, lo: number, from: Uint8Array): MemTx;
}
