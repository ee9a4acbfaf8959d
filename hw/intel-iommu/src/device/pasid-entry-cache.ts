/**
 * The unit's PASID cache: what PASID directory and table entry say of (requester, PASID), checked and decoded. Set-associative, a
 * record of 16 words each; it may forget any entry, but serves what it has until it is invalidated.
 */

import type { FaultingPasids } from './faulting-entries.js';

/** Words of a record. */
export const Pe = {
  STAMP: 0,
  REQUESTER: 1,
  PASID: 2,
  FLAGS: 3,
  DOMAIN: 4,
  /** Translation type, a Pgtt value. */
  PGTT: 5,
  SS_HI: 6,
  SS_LO: 7,
  SS_LEVELS: 8,
  FS_HI: 9,
  FS_LO: 10,
  FS_LEVELS: 11,
  /** The IOTLB's address-space id. */
  ASID: 12,
  /** The paging-structure cache's ids of the address spaces of either stage. */
  SECOND_SPACE: 13,
  FIRST_SPACE: 14,
} as const;
/** Of a record. */
export const PE_WORDS = 16;
const WORDS = PE_WORDS;

/** Bits of FLAGS. */
export const PeFlag = { FPD: 1, SRE: 2, WPE: 4, EAFE: 8, SSADE: 0x10, PWSNP: 0x20 } as const;

// Not exported, for speed: see second-stage.ts.
const { REQUESTER, PASID } = Pe;
const WAYS = 4;
const SETS = 1024;
const LAST_GENERATION = 0x7fff_fffe;

export class PasidEntryCache {
  /** Entries that were refused, where those are cached. */
  readonly faulting: FaultingPasids | undefined;
  /** The records; empty until the first is made. */
  words = new Int32Array(0);
  #generation = 1;
  #victim = 0;
  /** The record that was found last: nearly always the one that is asked for again, and found by three comparisons. */
  #last = 0;

  constructor(faulting?: FaultingPasids) {
    this.faulting = faulting;
  }

  /** Index in `words` of the record of (requester, PASID); -1 if there is none. */
  find(requesterId: number, pasid: number): number {
    const { words } = this;
    if (words.length === 0) return -1;
    if (this.#holds(this.#last, requesterId, pasid)) return this.#last;
    const set = this.#set(requesterId, pasid);
    for (let at = set; at < set + WAYS * WORDS; at += WORDS) {
      if (!this.#holds(at, requesterId, pasid)) continue;
      this.#last = at;
      return at;
    }
    return -1;
  }

  /** Makes a valid record for (requester, PASID), which has none, and returns its index; the caller writes the other words. */
  fill(requesterId: number, pasid: number): number {
    if (this.words.length === 0) this.words = new Int32Array(SETS * WAYS * WORDS);
    const { words } = this;
    const set = this.#set(requesterId, pasid);
    let way = 0;
    while (way < WAYS && words[set + way * WORDS] === this.#generation) way++;
    if (way === WAYS) way = this.#victim++ & (WAYS - 1);
    const at = set + way * WORDS;
    words[at] = this.#generation;
    words[at + Pe.REQUESTER] = requesterId;
    words[at + Pe.PASID] = pasid;
    return at;
  }

  invalidateAll(): void {
    this.faulting?.invalidateAll();
    if (this.#generation++ < LAST_GENERATION) return;
    this.words.fill(0);
    this.#generation = 1;
  }

  invalidateDomain(domain: number): void {
    this.faulting?.invalidateAll();
    const { words } = this;
    for (let at = 0; at < words.length; at += WORDS) if (words[at + Pe.DOMAIN] === domain) words[at] = 0;
  }

  invalidatePasid(domain: number, pasid: number): void {
    this.faulting?.invalidatePasid(pasid);
    const { words } = this;
    for (let at = 0; at < words.length; at += WORDS) {
      if (words[at + Pe.PASID] === pasid && words[at + Pe.DOMAIN] === domain) words[at] = 0;
    }
  }

  /** Indexes of the valid records. For inspection. */
  *records(): Generator<number> {
    for (let at = 0; at < this.words.length; at += WORDS) if (this.words[at] === this.#generation) yield at;
  }

  #holds(at: number, requesterId: number, pasid: number): boolean {
    const { words } = this;
    return words[at + PASID] === pasid && words[at + REQUESTER] === requesterId && words[at] === this.#generation;
  }

  #set(requesterId: number, pasid: number): number {
    const hash = Math.imul(pasid ^ Math.imul(requesterId, 0x27d4eb2f), 0x9e3779b1);
    return (hash >>> 22) * WAYS * WORDS;
  }
}
