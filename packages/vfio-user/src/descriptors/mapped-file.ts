/**
 * Guest memory that is mapped: ten times as fast to reach as by system calls, and a word is read or written at once. Only a file that can
 * never become shorter is mapped, as a memfd with a seal: who looks beyond the end of a file that was cut short is killed.
 */
import { MemTx } from '@remora/core';
import type { GuestFile } from '../shared-file.js';
import type { Libc, Mapping } from './libc.js';
import type { PassedDescriptor } from './passed.js';

/** The longest piece of memory that Node has views of, with room to spare. */
const MOST_BYTES = 2n ** 32n - 2n ** 20n;
const WORD_BYTES = 4;

export class MappedFile implements GuestFile {
  readonly #mapping: Mapping;
  #bytes: Uint8Array;
  #words: Int32Array;

  private constructor(mapping: Mapping) {
    this.#mapping = mapping;
    this.#bytes = new Uint8Array(mapping.memory);
    this.#words = new Int32Array(mapping.memory, 0, Math.floor(mapping.memory.byteLength / WORD_BYTES));
  }

  /** Takes the descriptor; undefined, and takes nothing, if the file may become shorter, or cannot be mapped. */
  static open(libc: Libc, passed: PassedDescriptor, size: bigint, writable: boolean): MappedFile | undefined {
    if (size === 0n || size > MOST_BYTES || !libc.neverShrinks(passed.fd)) return undefined;
    const mapping = libc.map(passed.fd, Number(size), writable);
    if (mapping === undefined) return undefined;
    // The memory stays without it.
    passed.keep().close();
    return new MappedFile(mapping);
  }

  read(position: number, out: Uint8Array): MemTx {
    const end = position + out.length;
    if (end > this.#bytes.length) return MemTx.ERROR;
    if (out.length === WORD_BYTES && position % WORD_BYTES === 0) {
      const word = Atomics.load(this.#words, position / WORD_BYTES);
      for (let i = 0; i < WORD_BYTES; i++) out[i] = word >>> (8 * i);
    } else out.set(this.#bytes.subarray(position, end));
    return MemTx.OK;
  }

  write(position: number, from: Uint8Array): MemTx {
    if (position + from.length > this.#bytes.length) return MemTx.ERROR;
    if (from.length === WORD_BYTES && position % WORD_BYTES === 0) {
      const word = from[0]! | (from[1]! << 8) | (from[2]! << 16) | (from[3]! << 24);
      Atomics.store(this.#words, position / WORD_BYTES, word);
    } else this.#bytes.set(from, position);
    return MemTx.OK;
  }

  /** Whatever is read or written from now on is an error. */
  [Symbol.dispose](): void {
    this.#bytes = new Uint8Array(0);
    this.#words = new Int32Array(0);
    this.#mapping.unmap();
  }
}
