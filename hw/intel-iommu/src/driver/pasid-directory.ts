/** One function's PASID directory and tables in memory (VT-d 9.5, 9.6). */
import { Errno, type MemoryPort } from '@remora/core';
import { PASID_TABLE_SHIFT, PasidDirectoryEntry, PasidEntry, pasidLimit } from '../spec/index.js';
import { pointedTable, tablePointer } from './context-tables.js';
import type { PageAllocator } from './page-allocator.js';
import { StructureMemory } from './structure-memory.js';

const PRESENT = 1;
const PAGE_WORDS = 1024;
const SLOTS = 1 << PASID_TABLE_SHIFT;

/** The smallest PDTS whose directory covers PASIDs of `bits` bits. */
export function directorySize(bits: number): number {
  return Math.min(7, Math.max(0, bits - 13));
}

export class PasidDirectory {
  /** Covers PASIDs below `2 ** (pdts + 13)`. */
  readonly pdts: number;
  /** First frame; the directory has `2 ** (pdts + 10)` bytes. */
  readonly frame: number;
  readonly #memory: StructureMemory;
  readonly #pages: PageAllocator;
  readonly #pointer = new Int32Array(PasidDirectoryEntry.words);

  private constructor(memory: MemoryPort, pages: PageAllocator, pdts: number, frame: number) {
    this.#memory = new StructureMemory(memory);
    this.#pages = pages;
    this.pdts = pdts;
    this.frame = frame;
  }

  /** An empty directory; -ENOMEM if there are no pages for it. */
  static create(memory: MemoryPort, pages: PageAllocator, pdts: number): PasidDirectory | number {
    const frame = pages.allocate(directoryPages(pdts));
    return frame < 0 ? frame : new PasidDirectory(memory, pages, pdts, frame);
  }

  /** A directory that is there already, at `frame`. */
  static at(memory: MemoryPort, pages: PageAllocator, pdts: number, frame: number): PasidDirectory {
    return new PasidDirectory(memory, pages, pdts, frame);
  }

  /** Writes an entry, its present bit last. 0; -EINVAL if the directory does not cover the PASID; -ENOMEM. */
  write(pasid: number, entry: Int32Array): number {
    if (pasid < 0 || pasid >= pasidLimit(this.pdts)) return -Errno.EINVAL;
    let table = this.#table(pasid);
    if (table < 0) {
      table = this.#pages.allocate(1);
      if (table < 0) return -Errno.ENOMEM;
      this.#memory.publish(this.frame, this.#directoryWord(pasid), tablePointer(table));
    }
    this.#memory.publish(table, (pasid % SLOTS) * PasidEntry.words, entry);
    return 0;
  }

  /** Reads an entry into `out`. False if it is not present. */
  read(pasid: number, out: Int32Array): boolean {
    const table = pasid < 0 || pasid >= pasidLimit(this.pdts) ? -1 : this.#table(pasid);
    if (table < 0) return false;
    this.#memory.load(table, (pasid % SLOTS) * PasidEntry.words, out, 0, PasidEntry.words);
    return (out[0]! & PRESENT) !== 0;
  }

  /** Makes an entry absent. */
  clear(pasid: number): void {
    const table = this.#table(pasid);
    if (table >= 0) this.#memory.retract(table, (pasid % SLOTS) * PasidEntry.words, PasidEntry.words);
  }

  /** Gives back the table that held a cleared entry if nothing else is in it. Only once the unit forgot the entry. */
  prune(pasid: number): void {
    const table = this.#table(pasid);
    if (table < 0) return;
    const words = new Int32Array(PAGE_WORDS);
    this.#memory.load(table, 0, words, 0, PAGE_WORDS);
    for (let slot = 0; slot < SLOTS; slot++) if ((words[slot * PasidEntry.words]! & PRESENT) !== 0) return;
    this.#memory.retract(this.frame, this.#directoryWord(pasid), PasidDirectoryEntry.words);
    this.#pages.free(table, 1);
  }

  /** The entries that are present, in ascending PASID order; the words are valid until the next step. */
  *entries(): IterableIterator<{ readonly pasid: number; readonly entry: Int32Array }> {
    const entry = new Int32Array(PasidEntry.words);
    for (const { index, table } of this.#tables()) {
      for (let slot = 0; slot < SLOTS; slot++) {
        this.#memory.load(table, slot * PasidEntry.words, entry, 0, PasidEntry.words);
        if ((entry[0]! & PRESENT) !== 0) yield { pasid: index * SLOTS + slot, entry };
      }
    }
  }

  /** Returns all tables. The unit must not use them any more. */
  free(): void {
    for (const { table } of this.#tables()) this.#pages.free(table, 1);
    this.#pages.free(this.frame, directoryPages(this.pdts));
  }

  #directoryWord(pasid: number): number {
    return (pasid >>> PASID_TABLE_SHIFT) * PasidDirectoryEntry.words;
  }

  #table(pasid: number): number {
    this.#memory.load(this.frame, this.#directoryWord(pasid), this.#pointer, 0, PasidDirectoryEntry.words);
    return pointedTable(this.#pointer, 0);
  }

  *#tables(): IterableIterator<{ readonly index: number; readonly table: number }> {
    const words = new Int32Array(Math.min(PAGE_WORDS, directoryWords(this.pdts)));
    const perRun = words.length / PasidDirectoryEntry.words;
    for (let run = 0; run * words.length < directoryWords(this.pdts); run++) {
      this.#memory.load(this.frame, run * words.length, words, 0, words.length);
      for (let at = 0; at < perRun; at++) {
        const table = pointedTable(words, at * PasidDirectoryEntry.words);
        if (table >= 0) yield { index: run * perRun + at, table };
      }
    }
  }
}

function directoryWords(pdts: number): number {
  return 2 ** (pdts + 7) * PasidDirectoryEntry.words;
}

function directoryPages(pdts: number): number {
  return Math.ceil(directoryWords(pdts) / PAGE_WORDS);
}
