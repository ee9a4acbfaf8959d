/** The driver's own structures in memory, by page frame and word. */
import { frameHi, frameLo } from '@remora/bits';
import { MemTx, type MemoryPort } from '@remora/core';

/**
 * Word accesses to structures that the driver keeps in frames it allocated. A failure is no one's mistake but the driver's, or
 * that of whoever gave it its frames, so it throws.
 */
export class StructureMemory {
  readonly #port: MemoryPort;
  readonly #first = new Int32Array(1);

  constructor(port: MemoryPort) {
    this.#port = port;
  }

  /** Reads `count` words from word `word` of the run of pages that starts at `frame` into `out[at ..]`. */
  load(frame: number, word: number, out: Int32Array, at: number, count: number): void {
    const page = frame + (word >>> 10);
    if (this.#port.load(frameHi(page), frameLo(page) + ((word & 0x3ff) << 2), out, at, count) !== MemTx.OK) {
      throw new Error(`cannot read a structure at frame 0x${page.toString(16)}`);
    }
  }

  /** Writes `count` words from `from[at ..]`. */
  store(frame: number, word: number, from: Int32Array, at: number, count: number): void {
    const page = frame + (word >>> 10);
    if (this.#port.store(frameHi(page), frameLo(page) + ((word & 0x3ff) << 2), from, at, count) !== MemTx.OK) {
      throw new Error(`cannot write a structure at frame 0x${page.toString(16)}`);
    }
  }

  /**
   * Writes an entry whose first word holds its present bit, so that hardware never sees half of it: an entry that is present is
   * made absent first, and the first word comes last.
   */
  publish(frame: number, word: number, entry: Int32Array): void {
    this.load(frame, word, this.#first, 0, 1);
    if ((this.#first[0]! & 1) !== 0) this.#writeFirst(frame, word, this.#first[0]! & ~1);
    this.store(frame, word + 1, entry, 1, entry.length - 1);
    this.#writeFirst(frame, word, entry[0]!);
  }

  /** Zeroes an entry of `words` words, the one with its present bit first. */
  retract(frame: number, word: number, words: number): void {
    this.#writeFirst(frame, word, 0);
    this.store(frame, word + 1, new Int32Array(words - 1), 0, words - 1);
  }

  #writeFirst(frame: number, word: number, value: number): void {
    this.#first[0] = value;
    this.store(frame, word, this.#first, 0, 1);
  }
}
