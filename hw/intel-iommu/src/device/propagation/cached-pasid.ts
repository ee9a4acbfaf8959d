/** One guest PASID entry as the vIOMMU last saw it, and what the host was told about it [A12]. */
import { PasidEntry } from '../../spec/index.js';

/** PASID entry size in 32-bit words. */
export const ENTRY_WORDS = PasidEntry.words;

export class CachedPasid {
  readonly pasid: number;
  /** The entry's 64 bytes as of the last successful sync. */
  readonly entry = new Int32Array(ENTRY_WORDS);
  /** Whether the host has a binding for it on this function's behalf. */
  bound = false;
  /** Generation in which it was last filled; anything but the current one is stale. Moves under quirk Q4 only. */
  generation: number;

  constructor(pasid: number, generation: number) {
    this.pasid = pasid;
    this.generation = generation;
  }

  get domain(): number {
    return PasidEntry.fields.did.get(this.entry, 0);
  }

  holds(entry: Int32Array, at: number): boolean {
    for (let word = 0; word < ENTRY_WORDS; word++) if (this.entry[word] !== entry[at + word]) return false;
    return true;
  }

  fill(entry: Int32Array, at: number, generation: number): void {
    for (let word = 0; word < ENTRY_WORDS; word++) this.entry[word] = entry[at + word]!;
    this.generation = generation;
  }
}

/** Whether the PASID entry at `at` carries the domain id `domain`. */
export function hasDomain(entry: Int32Array, at: number, domain: number): boolean {
  return PasidEntry.fields.did.get(entry, at) === domain;
}
