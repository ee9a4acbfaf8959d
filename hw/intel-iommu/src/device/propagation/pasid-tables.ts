/**
 * Reading a guest's PASID table for propagation: straight from guest memory, without the unit's caches and without recording
 * faults [A12, A15]. An entry that cannot be reached is absent.
 */
import { MemTx, type MemoryPort } from '@remora/core';
import type { VtdConfig } from '../../config/index.js';
import {
  MAX_PASID,
  PasidDirectoryEntry,
  PasidEntry,
  Pgtt,
  ScalableContextEntry,
  levelsOfWidth,
  pasidLimit,
  widthOfLevels,
} from '../../spec/index.js';
import { ENTRY_WORDS } from './cached-pasid.js';

/** What the reader needs of the unit. */
export interface PasidTableUnit {
  /** Latched root pointer is in scalable mode. */
  readonly scalable: boolean;
  readonly translationEnabled: boolean;
  /** Reads a function's context entry: 0, or a fault reason when it is absent or malformed. */
  readContextEntry(requesterId: number, out: Int32Array): number;
}

const ENTRIES_PER_TABLE = 64;
/** Directory entries that are read at once. */
const DIRECTORY_RUN = 512;

export class PasidTables {
  readonly #unit: () => PasidTableUnit;
  readonly #memory: MemoryPort;
  readonly #config: VtdConfig;
  readonly #context = new Int32Array(ScalableContextEntry.words);
  readonly #directory = new Int32Array(DIRECTORY_RUN * PasidDirectoryEntry.words);
  readonly #table = new Int32Array(ENTRIES_PER_TABLE * ENTRY_WORDS);
  readonly #single = new Int32Array(ENTRY_WORDS);

  constructor(unit: () => PasidTableUnit, memory: MemoryPort, config: VtdConfig) {
    this.#unit = unit;
    this.#memory = memory;
    this.#config = config;
  }

  /** Whether requests are translated at all. */
  get translating(): boolean {
    return this.#unit().translationEnabled;
  }

  /**
   * Reads the entry of `pasid` into `out`. False if it is absent. With `plain`, that of PASID 0 also counts for a function without PASIDs: its requests
   * use it all the same.
   */
  resolve(requesterId: number, pasid: number, out: Int32Array, plain = false): boolean {
    const limit = this.#open(requesterId, plain);
    if (pasid >= limit) return false;
    if (this.#config['quirk-rid-pasid-gates'] && pasid !== 0 && !this.#read(0, this.#single)) return false;
    return this.#read(pasid, out);
  }

  /**
   * Visits every present entry of a function in ascending PASID order. `visit` gets the words and the index at which the entry
   * starts, valid during the call; a negative result ends the walk and is returned. `plain` as for `resolve`.
   */
  walk(requesterId: number, visit: (pasid: number, words: Int32Array, at: number) => number, plain = false): number {
    const limit = this.#open(requesterId, plain);
    if (limit === 1) return this.#read(0, this.#single) ? visit(0, this.#single, 0) : 0;
    if (limit === 0 || (this.#config['quirk-rid-pasid-gates'] && !this.#read(0, this.#single))) return 0;
    const tables = limit / ENTRIES_PER_TABLE;
    for (let first = 0; first < tables; first += DIRECTORY_RUN) {
      const count = Math.min(DIRECTORY_RUN, tables - first);
      const result = this.#walkDirectory(first, count, visit);
      if (result < 0) return result;
    }
    return 0;
  }

  /** Fetches the context entry. Returns the number of PASIDs that its directory covers; 0 if it is absent or has no PASIDs (1 if `plain`). */
  #open(requesterId: number, plain: boolean): number {
    const unit = this.#unit();
    if (!unit.scalable || !(unit.translationEnabled || this.#config['quirk-translation-off-keeps'])) return 0;
    if (unit.readContextEntry(requesterId, this.#context) !== 0) return 0;
    const fields = ScalableContextEntry.fields;
    if (fields.paside.get(this.#context, 0) === 0 && !this.#config['quirk-rid-pasid-gates']) return plain ? 1 : 0;
    if (this.#config['quirk-directory-size-ignored']) return MAX_PASID + 1;
    return Math.min(MAX_PASID + 1, pasidLimit(fields.pdts.get(this.#context, 0)));
  }

  #read(pasid: number, out: Int32Array): boolean {
    const index = Math.floor(pasid / ENTRIES_PER_TABLE);
    if (!this.#loadDirectory(index, 1)) return false;
    const directory = PasidDirectoryEntry.fields;
    if (directory.p.get(this.#directory, 0) === 0) return false;
    const hi = this.#directory[1]!;
    const lo = (this.#directory[0]! & ~0xfff) | ((pasid % ENTRIES_PER_TABLE) * ENTRY_WORDS * 4);
    return this.#memory.load(hi, lo, out, 0, ENTRY_WORDS) === MemTx.OK && this.#present(out, 0);
  }

  #walkDirectory(
    first: number,
    count: number,
    visit: (pasid: number, words: Int32Array, at: number) => number,
  ): number {
    // A directory that ends in unreadable memory is read entry by entry: what can be read still counts.
    const whole = this.#loadDirectory(first, count);
    for (let index = 0; index < count; index++) {
      if (!whole && !this.#loadDirectory(first + index, 1)) continue;
      const at = whole ? index * PasidDirectoryEntry.words : 0;
      if (PasidDirectoryEntry.fields.p.get(this.#directory, at) === 0) continue;
      const hi = this.#directory[at + 1]!;
      const lo = this.#directory[at]! & ~0xfff;
      if (this.#memory.load(hi, lo, this.#table, 0, this.#table.length) !== MemTx.OK) continue;
      for (let slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
        if (!this.#present(this.#table, slot * ENTRY_WORDS)) continue;
        const result = visit((first + index) * ENTRIES_PER_TABLE + slot, this.#table, slot * ENTRY_WORDS);
        if (result < 0) return result;
      }
    }
    return 0;
  }

  #loadDirectory(index: number, count: number): boolean {
    const base = ScalableContextEntry.fields.pasiddirptr.frame(this.#context, 0);
    const byte = base * 4096 + index * PasidDirectoryEntry.bytes;
    const hi = Math.floor(byte / 0x1_0000_0000);
    return (
      this.#memory.load(hi, byte % 0x1_0000_0000, this.#directory, 0, count * PasidDirectoryEntry.words) === MemTx.OK
    );
  }

  /** Present and of a known type. The type is judged as A12 judges it, the width only under its quirk. */
  #present(words: Int32Array, at: number): boolean {
    const fields = PasidEntry.fields;
    if (fields.p.get(words, at) === 0) return false;
    const type = fields.pgtt.get(words, at);
    if (type < Pgtt.FIRST_STAGE || type > Pgtt.PASS_THROUGH) return false;
    if (type === Pgtt.PASS_THROUGH && !this.#config.pt) return false;
    if (!this.#config['quirk-width-checked']) return true;
    const aw = fields.aw.get(words, at);
    return aw >= 1 && widthOfLevels(levelsOfWidth(aw)) <= this.#config['aw-bits'];
  }
}
