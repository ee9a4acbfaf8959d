/** The interrupt entry cache (VT-d 6.1): IRTEs by interrupt index, direct mapped. */
import { InterruptEntry } from '../spec/index.js';

const SLOTS = 1024;
const WORDS = InterruptEntry.words;
const EMPTY = -1;

export class InterruptEntryCache {
  /** Index of each slot's entry, or EMPTY. */
  readonly #tags = new Int32Array(SLOTS).fill(EMPTY);
  readonly #words = new Int32Array(SLOTS * WORDS);

  /** Copies the entry of `index` to `out[0 .. 3]`. Returns false if it is not here. */
  lookup(index: number, out: Int32Array): boolean {
    const slot = index % SLOTS;
    if (this.#tags[slot] !== index) return false;
    for (let word = 0; word < WORDS; word++) out[word] = this.#words[slot * WORDS + word]!;
    return true;
  }

  /** Keeps `entry[0 .. 3]`, instead of what was in its slot. */
  insert(index: number, entry: Int32Array): void {
    const slot = index % SLOTS;
    this.#tags[slot] = index;
    for (let word = 0; word < WORDS; word++) this.#words[slot * WORDS + word] = entry[word]!;
  }

  /** Forgets the 2^mask entries around `index`; `mask` is at most 31. */
  invalidate(index: number, mask: number): void {
    if (mask === 0) {
      if (this.#tags[index % SLOTS] === index) this.#tags[index % SLOTS] = EMPTY;
      return;
    }
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.#tags[slot]! >>> mask === index >>> mask) this.#tags[slot] = EMPTY;
    }
  }

  invalidateAll(): void {
    this.#tags.fill(EMPTY);
  }

  /** The cached indices, in order. For inspection. */
  indices(): number[] {
    return [...this.#tags].filter(tag => tag !== EMPTY).sort((a, b) => a - b);
  }
}
