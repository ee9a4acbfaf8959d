/**
 * Page tables in memory: second-stage (VT-d 9.8) and first-stage (VT-d 9.7) ones of 3, 4 or 5 levels. The memory is the only truth:
 * nothing is remembered outside it but the root.
 */
import { frameHi, frameLo } from '@remora/bits';
import { Access, Errno, type MemoryPort } from '@remora/core';
import { widthOfLevels } from '../spec/index.js';
import type { PageAllocator } from './page-allocator.js';
import { type EntryFormat, firstStage, LARGE, SECOND_STAGE } from './page-entry.js';
import { StructureMemory } from './structure-memory.js';

const ENTRIES = 512;
/** Address bits 51:32 in an entry's high word. */
const ADDRESS_HI = 0xf_ffff;
/** Page frames of a 64-bit address space. */
const ALL_FRAMES = 2 ** 52;

/** log2 of a leaf's size in bytes. */
export type LeafShift = 12 | 21 | 30;

export interface PageTableOptions {
  readonly stage: 'first' | 'second';
  readonly levels: 3 | 4 | 5;
  /** The largest leaf that `map` may use where alignment allows it; default 12. */
  readonly largestLeaf?: LeafShift;
  /** First stage: whether accessed and dirty bits are set from the start; default true. */
  readonly presetAccessed?: boolean;
}

/** A run of mapped pages, contiguous on both sides. Frames and counts are in 4 KiB pages. */
export interface Mapping {
  readonly iovaFrame: number;
  readonly frame: number;
  readonly pages: number;
  /** Access bits. */
  readonly access: number;
}

/** One entry read by a walk. */
export interface WalkStep {
  /** 5 .. 1. */
  readonly level: number;
  /** Frame of the table, and the entry's index in it. */
  readonly table: number;
  readonly index: number;
  /** The entry. */
  readonly hi: number;
  readonly lo: number;
}

export interface PageWalk {
  readonly steps: readonly WalkStep[];
  /** The frame that the address maps to; -1 if it is not mapped. */
  readonly frame: number;
  /** log2 of the leaf's size; 0 if it is not mapped. */
  readonly shift: number;
  /** Access bits of the leaf. */
  readonly access: number;
}

/** What an unmapping leaves to its caller. */
export interface UnmapSink {
  /** A leaf was cleared. */
  removed?(iovaFrame: number, frame: number, pages: number, access: number): void;
  /** A table became empty and is unlinked from entry `index` of the one at frame `table`; it may be reused once hardware forgot it. */
  retire(frame: number, table: number, index: number): void;
}

/** A large leaf that was replaced by the table `child`, and the entry that it was. */
interface Split {
  readonly table: number;
  readonly index: number;
  readonly hi: number;
  readonly lo: number;
  readonly child: number;
}

const SPANS = [0, 1, 2 ** 9, 2 ** 18, 2 ** 27, 2 ** 36];

/** Pages that one entry of a table at `level` covers. */
function span(level: number): number {
  return SPANS[level]!;
}

function entryFrame(hi: number, lo: number): number {
  return (hi & ADDRESS_HI) * 0x10_0000 + (lo >>> 12);
}

/** How many of `frames` from index `from` on are neighbours in ascending order. */
function runLength(frames: Int32Array, from: number): number {
  let end = from + 1;
  while (end < frames.length && frames[end] === frames[end - 1]! + 1) end++;
  return end - from;
}

export class PageTable {
  readonly levels: 3 | 4 | 5;
  readonly stage: 'first' | 'second';
  /** Frame of the top table. */
  readonly rootFrame: number;
  readonly #memory: StructureMemory;
  readonly #pages: PageAllocator;
  readonly #format: EntryFormat;
  readonly #largestLeaf: LeafShift;
  readonly #entry = new Int32Array(2);
  readonly #run = new Int32Array(ENTRIES * 2);
  readonly #freeNow: UnmapSink = { retire: frame => this.#pages.free(frame, 1) };

  /** @throws Error if there is no page for the root, which is allocated unless it is given. */
  constructor(memory: MemoryPort, pages: PageAllocator, options: PageTableOptions, rootFrame = pages.allocate(1)) {
    if (rootFrame < 0) throw new Error('page table: no page for the root');
    this.#memory = new StructureMemory(memory);
    this.#pages = pages;
    this.levels = options.levels;
    this.stage = options.stage;
    this.#largestLeaf = options.largestLeaf ?? 12;
    this.#format = options.stage === 'first' ? firstStage(options.presetAccessed ?? true) : SECOND_STAGE;
    this.rootFrame = rootFrame;
  }

  /** As the constructor; -ENOMEM if there is no page for the root. */
  static create(memory: MemoryPort, pages: PageAllocator, options: PageTableOptions): PageTable | number {
    const rootFrame = pages.allocate(1);
    return rootFrame < 0 ? rootFrame : new PageTable(memory, pages, options, rootFrame);
  }

  /**
   * Maps `pages` pages from `iovaFrame` to `frame` with Access bits. 0; -EEXIST if any of them is mapped; -EINVAL if they lie outside the
   * table's width or `access` has neither read nor write (a first stage cannot do without read); -ENOMEM. Unless it is 0, nothing changed.
   */
  map(iovaFrame: number, frame: number, pages: number, access: number, largest: LeafShift = this.#largestLeaf): number {
    const refused = this.#refusal(iovaFrame, pages, access);
    if (refused !== 0) return refused;
    const done = this.#fill(this.rootFrame, this.levels, iovaFrame, frame, pages, access, (largest - 3) / 9);
    if (done === pages) return 0;
    if (done > 0) this.#clear(this.rootFrame, this.levels, iovaFrame, done, this.#freeNow);
    return -Errno.ENOMEM;
  }

  /**
   * As `map`, of pages that lie scattered: `frames` in order, from `iovaFrame` on. Long runs among them get large leaves, too. A table is written
   * at once, not page by page: assembling a VM took 9 ms, not 13.
   */
  mapFrames(iovaFrame: number, frames: Int32Array, access: number): number {
    const pages = frames.length;
    const refused = this.#refusal(iovaFrame, pages, access);
    if (refused !== 0) return refused;
    for (let done = 0; done < pages;) {
      const at = iovaFrame + done;
      const run = runLength(frames, done);
      const inTable = Math.min(pages - done, ENTRIES - (at % ENTRIES));
      const filled =
        run >= ENTRIES
          ? this.#fill(this.rootFrame, this.levels, at, frames[done]!, run, access, (this.#largestLeaf - 3) / 9)
          : this.#fillScattered(at, frames, done, inTable, access);
      done += filled;
      if (filled === (run >= ENTRIES ? run : inTable)) continue;
      // Tables that were made for the next page are empty now: they go with the rest.
      this.#clear(this.rootFrame, this.levels, iovaFrame, done + 1, this.#freeNow);
      return -Errno.ENOMEM;
    }
    return 0;
  }

  /**
   * Unmaps `pages` pages from `iovaFrame`; pages that are not mapped are passed over, a leaf that reaches beyond is split. 0; -EINVAL outside the
   * table's width; -ENOMEM if there is no page for a split (then nothing is unmapped). Empty tables go to `sink`, by default back to the allocator.
   */
  unmap(iovaFrame: number, pages: number, sink: UnmapSink = this.#freeNow): number {
    if (!this.covers(iovaFrame, pages)) return -Errno.EINVAL;
    const splits: Split[] = [];
    if (!this.#splitAt(iovaFrame, splits) || !this.#splitAt(iovaFrame + pages, splits)) {
      for (const { table, index, hi, lo, child } of splits.reverse()) {
        this.#write(table, index, hi, lo);
        this.#pages.free(child, 1);
      }
      return -Errno.ENOMEM;
    }
    this.#clear(this.rootFrame, this.levels, iovaFrame, pages, sink);
    return 0;
  }

  /** Puts an empty table that unmap retired back where it was: entry `index` of `table`. */
  relink(frame: number, table: number, index: number): void {
    this.#write(table, index, frameHi(frame), frameLo(frame) | this.#format.table);
  }

  /** Reads what a translation of `iovaFrame` reads, down to the leaf or the first entry that is not present. */
  walk(iovaFrame: number): PageWalk {
    const steps: WalkStep[] = [];
    let table = this.rootFrame;
    for (let level: number = this.levels; level >= 1; level--) {
      const index = Math.floor(iovaFrame / span(level)) % ENTRIES;
      const { hi, lo } = this.#read(table, index);
      steps.push({ level, table, index, hi, lo });
      if (!this.#format.present(lo)) break;
      if (this.#isLeaf(lo, level)) {
        const frame = entryFrame(hi, lo) + (iovaFrame % span(level));
        return { steps, frame, shift: 3 + 9 * level, access: this.#format.access(hi, lo) };
      }
      table = entryFrame(hi, lo);
    }
    return { steps, frame: -1, shift: 0, access: 0 };
  }

  /** Everything that is mapped, in ascending order, as few runs as possible. */
  *mappings(): IterableIterator<Mapping> {
    let run: Mapping | undefined;
    for (const leaf of this.#leaves(this.rootFrame, this.levels, 0)) {
      if (
        run !== undefined &&
        run.iovaFrame + run.pages === leaf.iovaFrame &&
        run.frame + run.pages === leaf.frame &&
        run.access === leaf.access
      ) {
        run = { ...run, pages: run.pages + leaf.pages };
        continue;
      }
      if (run !== undefined) yield run;
      run = leaf;
    }
    if (run !== undefined) yield run;
  }

  /** Whether all of these pages are within the table's input width (for a first stage: canonical). */
  covers(iovaFrame: number, pages: number): boolean {
    const width = 2 ** (widthOfLevels(this.levels) - 12);
    const end = iovaFrame + pages;
    if (!Number.isInteger(iovaFrame) || !Number.isInteger(pages) || iovaFrame < 0 || pages <= 0) return false;
    if (this.stage === 'second') return end <= width;
    return end <= width / 2 || (iovaFrame >= ALL_FRAMES - width / 2 && end <= ALL_FRAMES);
  }

  /** Returns all tables, the root too. The object is of no use afterwards. */
  free(): void {
    this.#release(this.rootFrame, this.levels);
  }

  #isLeaf(lo: number, level: number): boolean {
    return level === 1 || (level <= 3 && (lo & LARGE) !== 0);
  }

  #read(table: number, index: number): { hi: number; lo: number } {
    this.#memory.load(table, index * 2, this.#entry, 0, 2);
    return { hi: this.#entry[1]!, lo: this.#entry[0]! };
  }

  #write(table: number, index: number, hi: number, lo: number): void {
    this.#entry[0] = lo;
    this.#entry[1] = hi;
    this.#memory.store(table, index * 2, this.#entry, 0, 2);
  }

  /** Why nothing can be mapped there: 0 or a negated errno. */
  #refusal(iovaFrame: number, pages: number, access: number): number {
    const needed = this.stage === 'first' ? Access.READ : Access.READ_WRITE;
    if (!this.covers(iovaFrame, pages) || (access & needed) === 0) return -Errno.EINVAL;
    return this.#anyMapped(this.rootFrame, this.levels, iovaFrame, pages) ? -Errno.EEXIST : 0;
  }

  #anyMapped(table: number, level: number, iovaFrame: number, pages: number): boolean {
    const size = span(level);
    for (let at = iovaFrame, end = iovaFrame + pages; at < end; at = (Math.floor(at / size) + 1) * size) {
      const { hi, lo } = this.#read(table, Math.floor(at / size) % ENTRIES);
      if (!this.#format.present(lo)) continue;
      if (this.#isLeaf(lo, level)) return true;
      const inside = Math.min(end - at, size - (at % size));
      if (this.#anyMapped(entryFrame(hi, lo), level - 1, at, inside)) return true;
    }
    return false;
  }

  /** Maps into entries that are known to be free. Returns how many pages it got to before the allocator ran dry. */
  #fill(
    table: number,
    level: number,
    iovaFrame: number,
    frame: number,
    pages: number,
    access: number,
    leafLevel: number,
  ): number {
    if (level === 1) {
      this.#fillRun(table, iovaFrame % ENTRIES, frame, pages, access);
      return pages;
    }
    const size = span(level);
    let done = 0;
    while (done < pages) {
      const at = iovaFrame + done;
      const index = Math.floor(at / size) % ENTRIES;
      const inside = Math.min(pages - done, size - (at % size));
      const old = this.#read(table, index);
      const present = this.#format.present(old.lo);
      if (!present && level <= leafLevel && inside === size && (frame + done) % size === 0) {
        const hi = frameHi(frame + done) | this.#format.leafHi(access);
        this.#write(table, index, hi, frameLo(frame + done) | this.#format.leafLo(access) | LARGE);
        done += size;
        continue;
      }
      const child = present ? entryFrame(old.hi, old.lo) : this.#pages.allocate(1);
      if (child < 0) return done;
      if (!present) this.#write(table, index, frameHi(child), frameLo(child) | this.#format.table);
      const filled = this.#fill(child, level - 1, at, frame + done, inside, access, leafLevel);
      if (filled === 0 && !present) {
        this.#write(table, index, 0, 0);
        this.#pages.free(child, 1);
      }
      done += filled;
      if (filled < inside) return done;
    }
    return done;
  }

  /** Writes `count` 4 KiB leaves from `index` in one go. */
  #fillRun(table: number, index: number, frame: number, count: number, access: number): void {
    const lo = this.#format.leafLo(access);
    const hi = this.#format.leafHi(access);
    for (let i = 0; i < count; i++) {
      this.#run[i * 2] = frameLo(frame + i) | lo;
      this.#run[i * 2 + 1] = frameHi(frame + i) | hi;
    }
    this.#memory.store(table, index * 2, this.#run, 0, count * 2);
  }

  /** Writes the leaves of `count` scattered pages that lie in one table, which is made if it is not there. Returns 0 if there is no page for it. */
  #fillScattered(iovaFrame: number, frames: Int32Array, from: number, count: number, access: number): number {
    const table = this.#leafTable(iovaFrame);
    if (table < 0) return 0;
    const lo = this.#format.leafLo(access);
    const hi = this.#format.leafHi(access);
    const run = this.#run;
    for (let i = 0; i < count; i++) {
      const frame = frames[from + i]!;
      run[i * 2] = frameLo(frame) | lo;
      run[i * 2 + 1] = frameHi(frame) | hi;
    }
    this.#memory.store(table, (iovaFrame % ENTRIES) * 2, run, 0, count * 2);
    return count;
  }

  /** Frame of the lowest table for a page where no large leaf is; tables on the way are made. -1 if there is no page for one. */
  #leafTable(iovaFrame: number): number {
    let table = this.rootFrame;
    for (let level: number = this.levels; level > 1; level--) {
      const index = Math.floor(iovaFrame / span(level)) % ENTRIES;
      const { hi, lo } = this.#read(table, index);
      const present = this.#format.present(lo);
      const child = present ? entryFrame(hi, lo) : this.#pages.allocate(1);
      if (child < 0) return -1;
      if (!present) this.#write(table, index, frameHi(child), frameLo(child) | this.#format.table);
      table = child;
    }
    return table;
  }

  /** Sees to it that no leaf straddles the boundary before page `iovaFrame`. False if there is no page for that. Notes what it did. */
  #splitAt(iovaFrame: number, done: Split[]): boolean {
    let table = this.rootFrame;
    for (let level: number = this.levels; level > 1 && iovaFrame % span(level) !== 0; level--) {
      const index = Math.floor(iovaFrame / span(level)) % ENTRIES;
      const { hi, lo } = this.#read(table, index);
      if (!this.#format.present(lo)) return true;
      if (this.#isLeaf(lo, level)) {
        const child = this.#pages.allocate(1);
        if (child < 0) return false;
        this.#spread(child, level - 1, hi, lo);
        done.push({ table, index, hi, lo, child });
        this.#write(table, index, frameHi(child), frameLo(child) | this.#format.table);
        table = child;
      } else {
        table = entryFrame(hi, lo);
      }
    }
    return true;
  }

  /** Fills a table with the 512 leaves of `level` that make up the large leaf `(hi, lo)`. */
  #spread(table: number, level: number, hi: number, lo: number): void {
    const frame = entryFrame(hi, lo);
    const flags = (lo & 0xfff & ~LARGE) | (level > 1 ? LARGE : 0);
    for (let i = 0; i < ENTRIES; i++) {
      this.#run[i * 2] = frameLo(frame + i * span(level)) | flags;
      this.#run[i * 2 + 1] = frameHi(frame + i * span(level)) | (hi & ~ADDRESS_HI);
    }
    this.#memory.store(table, 0, this.#run, 0, ENTRIES * 2);
  }

  /** Clears leaves and unlinks the tables that this empties. No leaf straddles either end. */
  #clear(table: number, level: number, iovaFrame: number, pages: number, sink: UnmapSink): void {
    const size = span(level);
    for (let at = iovaFrame, end = iovaFrame + pages; at < end; at = (Math.floor(at / size) + 1) * size) {
      const index = Math.floor(at / size) % ENTRIES;
      const { hi, lo } = this.#read(table, index);
      if (!this.#format.present(lo)) continue;
      if (this.#isLeaf(lo, level)) {
        this.#write(table, index, 0, 0);
        sink.removed?.(at, entryFrame(hi, lo), size, this.#format.access(hi, lo));
        continue;
      }
      const child = entryFrame(hi, lo);
      this.#clear(child, level - 1, at, Math.min(end - at, size - (at % size)), sink);
      if (this.#isEmpty(child)) {
        this.#write(table, index, 0, 0);
        sink.retire(child, table, index);
      }
    }
  }

  #isEmpty(table: number): boolean {
    // In steps: a table that is not empty mostly shows it in the first few entries.
    for (let index = 0; index < ENTRIES; index += 32) {
      this.#memory.load(table, index * 2, this.#run, 0, 64);
      for (let i = 0; i < 32; i++) if (this.#format.present(this.#run[i * 2]!)) return false;
    }
    return true;
  }

  *#leaves(table: number, level: number, base: number): IterableIterator<Mapping> {
    const words = new Int32Array(ENTRIES * 2);
    this.#memory.load(table, 0, words, 0, words.length);
    const size = span(level);
    for (let index = 0; index < ENTRIES; index++) {
      const lo = words[index * 2]!;
      const hi = words[index * 2 + 1]!;
      if (!this.#format.present(lo)) continue;
      let at = base + index * size;
      // The upper half of a first stage's input is sign-extended.
      if (level === this.levels && this.stage === 'first' && index >= ENTRIES / 2) at += ALL_FRAMES - size * ENTRIES;
      if (this.#isLeaf(lo, level)) {
        yield { iovaFrame: at, frame: entryFrame(hi, lo), pages: size, access: this.#format.access(hi, lo) };
      } else {
        yield* this.#leaves(entryFrame(hi, lo), level - 1, at);
      }
    }
  }

  #release(table: number, level: number): void {
    if (level > 1) {
      const words = new Int32Array(ENTRIES * 2);
      this.#memory.load(table, 0, words, 0, words.length);
      for (let index = 0; index < ENTRIES; index++) {
        const lo = words[index * 2]!;
        if (this.#format.present(lo) && !this.#isLeaf(lo, level))
          this.#release(entryFrame(words[index * 2 + 1]!, lo), level - 1);
      }
    }
    this.#pages.free(table, 1);
  }
}
