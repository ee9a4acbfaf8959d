/** What a second-stage table maps in a range of addresses (VT-d 9.8, vtd.md 4.5): a walk over tables instead of one page. */
import { frameOf } from '@remora/bits';
import { Errno, MemTx, type MemoryPort } from '@remora/core';
import { INTERRUPT_RANGE_BASE, INTERRUPT_RANGE_BYTES, Ss } from '../../spec/index.js';
import type { Capabilities } from '../capabilities.js';
import type { SecondStageMasks } from '../second-stage-masks.js';
import { append, type MappedRange } from './mapped-range.js';

const ENTRIES = 512;
const ENTRY_WORDS = 2;
/** Levels whose entries may map pages themselves. */
const LARGEST_LEAF = 3;
const PAGE = 4096;
const INTERRUPTS_START = INTERRUPT_RANGE_BASE / PAGE;
const INTERRUPTS_END = INTERRUPTS_START + INTERRUPT_RANGE_BYTES / PAGE;

/**
 * Tables that one walk reads, and ranges that it finds, at most. A guest's tables may refer to each other in a circle or share their
 * branches; without that, so many tables map half a TiB in pages of 4 KiB.
 */
const MAX_TABLES = 2 ** 18;
const MAX_RANGES = 2 ** 18;

/** A second-stage table: its root's byte address, and its levels. */
export interface SecondStageTable {
  readonly rootHi: number;
  readonly rootLo: number;
  readonly levels: number;
}

export class SecondStageRanges {
  readonly #caps: Capabilities;
  readonly #memory: MemoryPort;
  readonly #masks: SecondStageMasks;
  /** One table for each level, from index 1. */
  readonly #tables = Array.from({ length: 6 }, () => new Int32Array(ENTRIES * ENTRY_WORDS));
  #found: MappedRange[] = [];
  #tablesLeft = 0;
  #start = 0;
  #end = 0;

  constructor(caps: Capabilities, memory: MemoryPort, masks: SecondStageMasks) {
    this.#caps = caps;
    this.#memory = memory;
    this.#masks = masks;
  }

  /**
   * Appends to `found` what `table` maps in page frames [start, end), in ascending order, merged where it is contiguous. What would fault
   * is left out, and so is the interrupt range, which is not translated at all. Returns 0, or -E2BIG if the tables are more than any guest
   * needs; then what was found is of no use.
   */
  collect(table: SecondStageTable, start: number, end: number, found: MappedRange[]): number {
    this.#found = found;
    this.#tablesLeft = MAX_TABLES;
    this.#start = start;
    this.#end = Math.min(end, 2 ** (this.#caps.inputWidth(table.levels) - 12));
    return this.#walk(table.levels, table.rootHi, table.rootLo, 0, Ss.R | Ss.W);
  }

  /** `base`: the first frame that the table at (hi, lo) covers; `granted`: R and W that the levels above leave. */
  #walk(level: number, hi: number, lo: number, base: number, granted: number): number {
    const pages = ENTRIES ** (level - 1);
    const first = Math.max(0, Math.floor((this.#start - base) / pages));
    const past = Math.min(ENTRIES, Math.ceil((this.#end - base) / pages));
    if (first >= past) return 0;
    if (this.#tablesLeft-- <= 0) return -Errno.E2BIG;
    const words = this.#tables[level]!;
    const count = (past - first) * ENTRY_WORDS;
    if (this.#memory.load(hi, lo | (first << 3), words, first * ENTRY_WORDS, count) !== MemTx.OK) return 0;
    for (let index = first; index < past; index++) {
      const at = index * ENTRY_WORDS;
      const low = words[at]!;
      const high = words[at + 1]!;
      const left = granted & low;
      if (left === 0) continue;
      const leaf = level === 1 || ((low & Ss.PS) !== 0 && level <= LARGEST_LEAF);
      if (this.#masks.violates(level, leaf, low, high)) continue;
      const frame = base + index * pages;
      // Bits above the address are software's.
      const nextHi = high & this.#masks.addressHi;
      const result = leaf
        ? this.#leaf(frame, pages, frameOf(nextHi, low), left)
        : this.#walk(level - 1, nextHi, low & this.#masks.addressLo, frame, left);
      if (result !== 0) return result;
    }
    return 0;
  }

  #leaf(frame: number, pages: number, outFrame: number, access: number): number {
    const from = Math.max(frame, this.#start);
    const to = Math.min(frame + pages, this.#end);
    const out = outFrame - frame;
    this.#add(from, Math.min(to, Math.max(from, INTERRUPTS_START)), out, access);
    this.#add(Math.max(from, Math.min(to, INTERRUPTS_END)), to, out, access);
    return this.#found.length > MAX_RANGES ? -Errno.E2BIG : 0;
  }

  #add(from: number, to: number, out: number, access: number): void {
    if (from < to) append(this.#found, { frame: from, pages: to - from, outFrame: from + out, access });
  }
}
