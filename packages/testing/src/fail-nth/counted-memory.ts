import { MemTx, type MemoryPort } from '@remora/core';

/** Memory each of whose accesses may fail: `next` returns MemTx.OK, or how it fails. A store that fails changes nothing. */
export class CountedMemory implements MemoryPort {
  readonly #below: MemoryPort;
  readonly #next: () => MemTx;

  constructor(below: MemoryPort, next: () => MemTx) {
    this.#below = below;
    this.#next = next;
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    const failed = this.#next();
    return failed === MemTx.OK ? this.#below.load(hi, lo, out, at, count) : failed;
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    const failed = this.#next();
    return failed === MemTx.OK ? this.#below.store(hi, lo, from, at, count) : failed;
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    const failed = this.#next();
    return failed === MemTx.OK ? this.#below.read(hi, lo, out) : failed;
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    const failed = this.#next();
    return failed === MemTx.OK ? this.#below.write(hi, lo, from) : failed;
  }
}
