/** How a driver reaches its unit's register window. */
import { MemTx, type MemoryPort } from '@remora/core';

/** Register accesses by byte offset into the window. Values are 32-bit words of either sign. */
export interface VtdRegisters {
  read32(offset: number): number;
  write32(offset: number, value: number): void;
  /** `out[0]` = low, `out[1]` = high dword. */
  read64(offset: number, out: Int32Array): void;
  /** One 8-byte access. */
  write64(offset: number, hi: number, lo: number): void;
}

/**
 * The window at byte address `base` (4 KiB aligned, below 2^53) of an address space. Every access is one transaction.
 * An access that nothing answers reads as all-ones and is lost when written, as on a PC's bus.
 */
export class MemoryMappedRegisters implements VtdRegisters {
  readonly #port: MemoryPort;
  readonly #hi: number;
  readonly #lo: number;
  readonly #dword = new Uint8Array(4);
  readonly #qword = new Uint8Array(8);
  readonly #dwordView = new DataView(this.#dword.buffer);
  readonly #qwordView = new DataView(this.#qword.buffer);

  constructor(port: MemoryPort, base: number) {
    this.#port = port;
    this.#hi = Math.floor(base / 0x1_0000_0000);
    this.#lo = base % 0x1_0000_0000;
  }

  read32(offset: number): number {
    if (this.#port.read(this.#hi, this.#lo + offset, this.#dword) !== MemTx.OK) return -1;
    return this.#dwordView.getInt32(0, true);
  }

  write32(offset: number, value: number): void {
    this.#dwordView.setInt32(0, value, true);
    this.#port.write(this.#hi, this.#lo + offset, this.#dword);
  }

  read64(offset: number, out: Int32Array): void {
    const ok = this.#port.read(this.#hi, this.#lo + offset, this.#qword) === MemTx.OK;
    out[0] = ok ? this.#qwordView.getInt32(0, true) : -1;
    out[1] = ok ? this.#qwordView.getInt32(4, true) : -1;
  }

  write64(offset: number, hi: number, lo: number): void {
    this.#qwordView.setInt32(0, lo, true);
    this.#qwordView.setInt32(4, hi, true);
    this.#port.write(this.#hi, this.#lo + offset, this.#qword);
  }
}
