/** Root and context tables in memory (VT-d 9.1 to 9.4), by requester id. */
import { frameHi, frameLo, frameOf } from '@remora/bits';
import { Errno, type MemoryPort } from '@remora/core';
import { ContextEntry, ScalableContextEntry } from '../spec/index.js';
import type { PageAllocator } from './page-allocator.js';
import { StructureMemory } from './structure-memory.js';

/** Words of a root entry; in scalable mode its halves point to a table each. */
const ROOT_WORDS = 4;
const HALF_WORDS = 2;
const PRESENT = 1;
const TABLE_WORDS = 1024;

/** A present bit and a table's frame: halves of root entries and PASID directory entries are made so. */
export function tablePointer(frame: number): Int32Array {
  return Int32Array.of(frameLo(frame) | PRESENT, frameHi(frame));
}

/** The frame in such a pointer at `at`; -1 if it is not present. */
export function pointedTable(words: Int32Array, at: number): number {
  return (words[at]! & PRESENT) === 0 ? -1 : frameOf(words[at + 1]!, words[at]!);
}

export class ContextTables {
  readonly rootFrame: number;
  readonly #memory: StructureMemory;
  readonly #pages: PageAllocator;
  readonly #scalable: boolean;
  readonly #entryWords: number;
  readonly #pointer = new Int32Array(HALF_WORDS);

  /** A root table that is there already is at `rootFrame`. @throws Error if there is no page for a new one. */
  constructor(memory: MemoryPort, pages: PageAllocator, scalable: boolean, rootFrame = pages.allocate(1)) {
    this.#memory = new StructureMemory(memory);
    this.#pages = pages;
    this.#scalable = scalable;
    this.#entryWords = scalable ? ScalableContextEntry.words : ContextEntry.words;
    this.rootFrame = rootFrame;
    if (this.rootFrame < 0) throw new Error('VT-d: no page for the root table');
  }

  /** Writes a context entry. 0, or -ENOMEM. */
  write(requesterId: number, entry: Int32Array): number {
    let table = this.#table(requesterId);
    if (table < 0) {
      table = this.#pages.allocate(1);
      if (table < 0) return -Errno.ENOMEM;
      this.#memory.publish(this.rootFrame, this.#rootWord(requesterId), tablePointer(table));
    }
    this.#memory.publish(table, this.#entryWord(requesterId), entry);
    return 0;
  }

  /** Reads a context entry into `out`. False if there is no table for it or it is not present. */
  read(requesterId: number, out: Int32Array): boolean {
    const table = this.#table(requesterId);
    if (table < 0) return false;
    this.#memory.load(table, this.#entryWord(requesterId), out, 0, this.#entryWords);
    return (out[0]! & PRESENT) !== 0;
  }

  /** Makes a context entry absent. */
  clear(requesterId: number): void {
    const table = this.#table(requesterId);
    if (table >= 0) this.#memory.retract(table, this.#entryWord(requesterId), this.#entryWords);
  }

  /** Gives back the table that held a cleared entry if nothing else is in it. Only once the unit forgot the entry. */
  prune(requesterId: number): void {
    const table = this.#table(requesterId);
    if (table < 0) return;
    const words = new Int32Array(TABLE_WORDS);
    this.#memory.load(table, 0, words, 0, TABLE_WORDS);
    for (let at = 0; at < TABLE_WORDS; at += this.#entryWords) if ((words[at]! & PRESENT) !== 0) return;
    this.#memory.retract(this.rootFrame, this.#rootWord(requesterId), HALF_WORDS);
    this.#pages.free(table, 1);
  }

  /** Returns all tables. The unit must not use them any more. */
  free(): void {
    const root = new Int32Array(TABLE_WORDS);
    this.#memory.load(this.rootFrame, 0, root, 0, TABLE_WORDS);
    for (let at = 0; at < TABLE_WORDS; at += HALF_WORDS) {
      const table = pointedTable(root, at);
      if (table >= 0) this.#pages.free(table, 1);
    }
    this.#pages.free(this.rootFrame, 1);
  }

  #rootWord(requesterId: number): number {
    const upper = this.#scalable && (requesterId & 0x80) !== 0;
    return (requesterId >>> 8) * ROOT_WORDS + (upper ? HALF_WORDS : 0);
  }

  #entryWord(requesterId: number): number {
    return (requesterId & (this.#scalable ? 0x7f : 0xff)) * this.#entryWords;
  }

  #table(requesterId: number): number {
    this.#memory.load(this.rootFrame, this.#rootWord(requesterId), this.#pointer, 0, HALF_WORDS);
    return pointedTable(this.#pointer, 0);
  }
}
