/**
 * Portals (DSA 3.3, 9.3). Software stores a descriptor with one 64-byte write. Buses here carry at most 8 bytes at a time, so a
 * descriptor is put together from its pieces: it is submitted when all of one 64-byte line came, and a piece for another line of the
 * same queue discards what is incomplete.
 */
import type { StateReader, StateWriter } from '@remora/core';
import { DESCRIPTOR_BYTES, DESCRIPTOR_WORDS } from '../spec/index.js';

const COMPLETE = 0xffff;

export class Portal {
  readonly #words = new Int32Array(DESCRIPTOR_WORDS);
  /** Offset of the line within the queue's portals. */
  #line = 0;
  /** A bit for each word that came. */
  #present = 0;

  /** Takes one word. The descriptor if it is complete; the caller copies what it keeps. */
  write(offset: number, value: number): Int32Array | undefined {
    const line = offset & ~(DESCRIPTOR_BYTES - 1);
    if (line !== this.#line) this.#present = 0;
    this.#line = line;
    const word = (offset & (DESCRIPTOR_BYTES - 1)) >>> 2;
    this.#words[word] = value;
    this.#present |= 1 << word;
    if (this.#present !== COMPLETE) return undefined;
    this.#present = 0;
    return this.#words;
  }

  reset(): void {
    this.#present = 0;
  }

  save(into: StateWriter): void {
    into.words('words', this.#words).integer('line', this.#line).integer('present', this.#present);
  }

  load(from: StateReader): void {
    from.words('words', this.#words);
    this.#line = from.integer('line', { max: 0xffff });
    this.#present = from.integer('present', { max: COMPLETE });
  }
}
