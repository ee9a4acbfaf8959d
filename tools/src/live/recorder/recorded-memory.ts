import { MemTx, type MemoryPort } from '@remora/core';

/** Hears of each access to memory. */
export interface MemoryListener {
  /** `bytes` are good during the call; undefined if nothing answered. */
  read(hi: number, lo: number, length: number, bytes: Uint8Array | undefined): void;
  wrote(hi: number, lo: number, length: number, bytes: Uint8Array | undefined): void;
}

/** A unit's way to memory, with somebody who listens. */
export class RecordedMemory implements MemoryPort {
  readonly #below: MemoryPort;
  readonly #listener: MemoryListener;

  constructor(below: MemoryPort, listener: MemoryListener) {
    this.#below = below;
    this.#listener = listener;
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    const result = this.#below.load(hi, lo, out, at, count);
    this.#listener.read(hi, lo, count * 4, result === MemTx.OK ? bytesOf(out, at, count) : undefined);
    return result;
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    const result = this.#below.store(hi, lo, from, at, count);
    this.#listener.wrote(hi, lo, count * 4, result === MemTx.OK ? bytesOf(from, at, count) : undefined);
    return result;
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    const result = this.#below.read(hi, lo, out);
    this.#listener.read(hi, lo, out.length, result === MemTx.OK ? out : undefined);
    return result;
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    const result = this.#below.write(hi, lo, from);
    this.#listener.wrote(hi, lo, from.length, result === MemTx.OK ? from : undefined);
    return result;
  }
}

/** `count` words from `at` on, as they lie in memory. */
function bytesOf(words: Int32Array, at: number, count: number): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset + at * 4, count * 4);
}
