/**
 * The context cache: what root and context entry say of a requester, checked and decoded. One record of words per requester, in
 * a table per bus that exists once the bus has been used.
 */

import { FUNCTION_MASKS, type FaultingContexts } from './faulting-entries.js';

/** Words of a record. */
export const Ctx = {
  /** Generation in which it was filled. */
  STAMP: 0,
  FLAGS: 1,
  /** Legacy: domain id. */
  DOMAIN: 2,
  /** Legacy: levels of the second stage. Scalable: how many PASIDs the directory covers. */
  EXTENT: 3,
  /** Legacy: second-stage root. Scalable: PASID directory. Byte address. */
  TABLE_HI: 4,
  TABLE_LO: 5,
  /** Scalable: the PASID of requests without PASID. */
  RID_PASID: 6,
  /** Legacy: the paging-structure cache's id of the second stage's address space. */
  SECOND_SPACE: 6,
  /** Legacy: the IOTLB's address-space id. */
  ASID: 7,
} as const;
/** Of a record. */
export const CTX_WORDS = 8;
const WORDS = CTX_WORDS;

/** Bits of FLAGS. */
export const CtxFlag = { FPD: 1, PASS_THROUGH: 2, DTE: 4, PASIDE: 8, PRE: 0x10, RID_PRIV: 0x20 } as const;

const NO_BUS = new Int32Array(0);
const FUNCTIONS = 256;
const LAST_GENERATION = 0x7fff_fffe;

export class ContextCache {
  /** Entries that were refused, where those are cached. */
  readonly faulting: FaultingContexts | undefined;
  readonly #buses: Int32Array[] = new Array<Int32Array>(FUNCTIONS).fill(NO_BUS);
  #generation = 1;

  constructor(faulting?: FaultingContexts) {
    this.faulting = faulting;
  }

  /** The table of a requester's bus, in which its record is at `at(requesterId)`. Does not make one: see `fill`. */
  table(requesterId: number): Int32Array {
    return this.#buses[requesterId >>> 8]!;
  }

  /** Index of a requester's record in its bus's table. */
  at(requesterId: number): number {
    return (requesterId & 0xff) * WORDS;
  }

  /** Whether the requester's record is valid. */
  has(requesterId: number): boolean {
    return this.table(requesterId)[this.at(requesterId)] === this.#generation;
  }

  /** Makes the requester's record valid; returns its bus's table, into which the caller writes the other words. */
  fill(requesterId: number): Int32Array {
    const bus = requesterId >>> 8;
    if (this.#buses[bus] === NO_BUS) this.#buses[bus] = new Int32Array(FUNCTIONS * WORDS);
    const table = this.#buses[bus]!;
    table[this.at(requesterId)] = this.#generation;
    return table;
  }

  invalidateAll(): void {
    this.faulting?.invalidateAll();
    if (this.#generation++ < LAST_GENERATION) return;
    for (const table of this.#buses) table.fill(0);
    this.#generation = 1;
  }

  /** Legacy mode: the records of one domain. */
  invalidateDomain(domain: number): void {
    this.faulting?.invalidateDomain(domain);
    for (const table of this.#buses) {
      for (let at = 0; at < table.length; at += WORDS) if (table[at + Ctx.DOMAIN] === domain) table[at] = 0;
    }
  }

  /** The records of the requesters that match under the function mask (0 .. 3); unless `anyDomain`, only those of `domain`. */
  invalidateDevice(sourceId: number, functionMask: number, domain: number, anyDomain: boolean): void {
    this.faulting?.invalidateDevice(sourceId, functionMask, domain, anyDomain);
    const mask = FUNCTION_MASKS[functionMask]!;
    const table = this.table(sourceId);
    for (let devfn = 0, at = 0; at < table.length; devfn++, at += WORDS) {
      if (((devfn ^ sourceId) & mask & 0xff) !== 0) continue;
      if (anyDomain || table[at + Ctx.DOMAIN] === domain) table[at] = 0;
    }
  }

  /** Copies of the valid records, with the requester id in the place of the generation. For state. */
  *records(): Generator<Int32Array> {
    for (const id of this.requesters()) {
      const record = this.table(id).slice(this.at(id), this.at(id) + WORDS);
      record[Ctx.STAMP] = id;
      yield record;
    }
  }

  /** Requester ids of the valid records. For inspection. */
  *requesters(): Generator<number> {
    for (let id = 0; id < FUNCTIONS * FUNCTIONS; id++) if (this.has(id)) yield id;
  }
}
