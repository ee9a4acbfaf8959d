/**
 * A paging-structure cache: what a page walk read on its way down, so that the next one starts at the deepest table known. An entry
 * stands for one entry of a table at a level (1: the last table, whose entries are 4 KiB pages) and holds 52 bits of address, the
 * next table, and 8 bits of the caller's, its marks. Entries belong to address spaces as an IOTLB's do and go by the same flushes,
 * but not by all of them: a guest may say that it changed only leaves.
 *
 * An entry can also say that the walk ends there (`insertDeadEnd`). A leaf may come in the place of a dead end where the architecture
 * has leaves, so that flushes of leaves remove those.
 *
 * Two ways of 16 bytes on one Int32Array. It may forget any entry, and removes more than asked where exactness would cost the guest's
 * choice of work.
 */
import { AddressSpaces } from './iotlb-spaces.js';

/** One entry, for inspection. */
export interface PagingStructureEntry {
  readonly domain: number;
  /** -1 for none. */
  readonly pasid: number;
  readonly kind: number;
  /** Whose entry it is: 1 the last table's .. 5. */
  readonly level: number;
  /** First input address that it covers. */
  readonly hi: number;
  readonly lo: number;
  readonly tableHi: number;
  readonly tableLo: number;
  readonly marks: number;
  readonly deadEnd: boolean;
}

const MAX_LEVEL = 5;
const TAGS = 2 ** 16;
const MAX_SLOTS = 2 ** 20;
/** Entries that one page-selective invalidation looks for before it flushes the address space instead. */
const MAX_PROBES = 1024;
const TABLE_HI_MASK = 0xfffff;

// Words of an entry. The first two are the key; a key of 0 marks an empty one.
/** Bits 43:12 of the input address, as far as the level covers them. */
const PAGE = 0;
/** Bits 56:44 of the input address, the tag's 16 bits, 3 bits of level. */
const SPACE = 1;
/** Bits 31:12 of the next table, DEAD_END, the marks. */
const TABLE_LO = 2;
/** Bits 51:32 of the next table. */
const TABLE_HI = 3;
const WORDS = 4;
const DEAD_END = 0x800;
const LEVEL_MASK = 7;
const TAG_SHIFT = 3;
const TOP_SHIFT = 19;

export class PagingStructureCache {
  readonly #words: Int32Array;
  readonly #hashShift: number;
  /** The highest level that has leaves. */
  readonly #leafLevels: number;
  readonly #spaces = new AddressSpaces(TAGS);
  /** No entry has a level below this one. */
  #deepest = MAX_LEVEL + 1;
  /** There may be dead ends. */
  #deadEnds = false;

  /** `slots`: a power of two from 2 to 2^20. `leafLevels`: pages are mapped by entries of levels 1 to this one. @throws RangeError */
  constructor(slots: number, leafLevels: number) {
    const bits = 31 - Math.clz32(slots);
    if (2 ** bits !== slots || slots < 2 || slots > MAX_SLOTS) throw new RangeError(`not a number of slots: ${slots}`);
    this.#words = new Int32Array(slots * WORDS);
    this.#hashShift = 32 - bits;
    this.#leafLevels = leafLevels;
  }

  /** As `Iotlb.asid`: an integer for an address space of this cache. */
  space(domain: number, pasid: number, kind: number): number {
    if (this.#spaces.full) {
      this.#wipe();
      this.#spaces.recycle();
    }
    return this.#spaces.intern(domain, pasid, kind);
  }

  /** As `Iotlb.isCurrent`. */
  isCurrent(space: number): boolean {
    return this.#spaces.isCurrent(space);
  }

  /** The slot of the deepest entry, of level `levels` or below, that covers (hi, lo), or -1. Good until the next change. */
  lookup(space: number, levels: number, hi: number, lo: number): number {
    const tag = this.#spaces.tagOf(space);
    if (tag === 0) return -1;
    for (let level = this.#deepest; level <= levels; level++) {
      const slot = this.#find(pageOf(level, hi, lo), keyOf(tag, level, hi));
      if (slot >= 0) return slot;
    }
    return -1;
  }

  level(slot: number): number {
    return this.#words[slot + SPACE]! & LEVEL_MASK;
  }

  isDeadEnd(slot: number): boolean {
    return (this.#words[slot + TABLE_LO]! & DEAD_END) !== 0;
  }

  /** High word of the next table's address. */
  tableHi(slot: number): number {
    return this.#words[slot + TABLE_HI]!;
  }

  /** Low word of the next table's address. */
  tableLo(slot: number): number {
    return this.#words[slot + TABLE_LO]! & ~0xfff;
  }

  /** The 8 bits that insert() or insertDeadEnd() was given. */
  marks(slot: number): number {
    return this.#words[slot + TABLE_LO]! & 0xff;
  }

  /** Remembers the entry of `level` on the way to (hi, lo): it leads to the table at (tableHi, tableLo), of 52 bits. */
  insert(space: number, level: number, hi: number, lo: number, tableHi: number, tableLo: number, marks: number): void {
    this.#insert(space, level, hi, lo, tableHi & TABLE_HI_MASK, (tableLo & ~0xfff) | (marks & 0xff));
  }

  /** Remembers that the walk to (hi, lo) ends at its entry of `level`, for the reason `marks`. */
  insertDeadEnd(space: number, level: number, hi: number, lo: number, marks: number): void {
    this.#insert(space, level, hi, lo, 0, DEAD_END | (marks & 0xff));
    this.#deadEnds = true;
  }

  /**
   * Removes the entries of `space` that lie on the way to the `1 << shift` bytes (12 .. 64) around (hi, lo). `leavesOnly`: only where
   * a leaf can have come.
   */
  invalidatePages(space: number, hi: number, lo: number, shift: number, leavesOnly: boolean): void {
    const tag = this.#spaces.tagOf(space);
    if (tag === 0 || (leavesOnly && !this.#deadEnds)) return;
    const last = leavesOnly ? this.#leafLevels : MAX_LEVEL;
    if (this.#probes(shift, last) > MAX_PROBES) this.#spaces.flush(space);
    else this.#removeRange(tag, hi, lo, shift, last, leavesOnly);
  }

  /** invalidatePages for every address space of this domain and kind. */
  invalidateDomainPages(
    domain: number,
    kind: number,
    hi: number,
    lo: number,
    shift: number,
    leavesOnly: boolean,
  ): void {
    const members = this.#spaces.members(domain, kind);
    if (members === undefined || (leavesOnly && !this.#deadEnds)) return;
    if (members.length * this.#probes(shift, leavesOnly ? this.#leafLevels : MAX_LEVEL) > MAX_PROBES) {
      this.#spaces.flushDomain(domain, kind);
      return;
    }
    for (let i = 0; i < members.length; i++) this.invalidatePages(members[i]!, hi, lo, shift, leavesOnly);
  }

  /** Removes all entries of `space`. Constant time. */
  invalidateSpace(space: number): void {
    this.#spaces.flush(space);
  }

  /** Removes all entries of a domain: of one kind, or of all four (-1). Constant time. */
  invalidateDomain(domain: number, kind = -1): void {
    this.#spaces.flushDomain(domain, kind);
  }

  /** Removes everything. Constant time. */
  invalidateAll(): void {
    this.#spaces.flushAll();
    this.#deepest = MAX_LEVEL + 1;
    this.#deadEnds = false;
  }

  /** What is cached now. For inspection and tests. */
  *entries(): Generator<PagingStructureEntry> {
    const words = this.#words;
    for (let slot = 0; slot < words.length; slot += WORDS) {
      const key = words[slot + SPACE]!;
      const tag = tagIn(key);
      if (!this.#spaces.isLive(tag)) continue;
      const page = words[slot + PAGE]!;
      yield {
        ...this.#spaces.describe(tag),
        level: key & LEVEL_MASK,
        hi: (((key >>> TOP_SHIFT) << 12) | (page >>> 20)) >>> 0,
        lo: (page << 12) >>> 0,
        tableHi: this.tableHi(slot),
        tableLo: this.tableLo(slot) >>> 0,
        marks: this.marks(slot),
        deadEnd: this.isDeadEnd(slot),
      };
    }
  }

  #insert(space: number, level: number, hi: number, lo: number, third: number, second: number): void {
    const spaces = this.#spaces;
    if (!spaces.isCurrent(space)) return;
    let tag = spaces.tagOf(space);
    if (tag === 0) {
      if (spaces.tagsUsedUp) this.#wipe();
      tag = spaces.newTag(space);
    }
    if (level < this.#deepest) this.#deepest = level;
    const words = this.#words;
    const page = pageOf(level, hi, lo);
    const key = keyOf(tag, level, hi);
    const slot = this.#slot(page, key);
    if (words[slot + PAGE] !== page || words[slot + SPACE] !== key) {
      // What was here moves to the other way, over what was there: this entry's own predecessor, perhaps.
      const other = slot ^ WORDS;
      words[other] = words[slot]!;
      words[other + 1] = words[slot + 1]!;
      words[other + 2] = words[slot + 2]!;
      words[other + 3] = words[slot + 3]!;
      words[slot + PAGE] = page;
      words[slot + SPACE] = key;
    }
    words[slot + TABLE_LO] = second;
    words[slot + TABLE_HI] = third;
  }

  /** The way that a key comes to first; the other one is beside it. */
  #slot(page: number, key: number): number {
    let hash = Math.imul(page ^ Math.imul(key, 0x27d4eb2f), 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return (hash >>> this.#hashShift) * WORDS;
  }

  #find(page: number, key: number): number {
    const words = this.#words;
    const slot = this.#slot(page, key);
    if (words[slot + PAGE] === page && words[slot + SPACE] === key) return slot;
    const other = slot ^ WORDS;
    return words[other + PAGE] === page && words[other + SPACE] === key ? other : -1;
  }

  /** How many entries of levels up to `last` lie on the way to an aligned range of `1 << shift` bytes. */
  #probes(shift: number, last: number): number {
    let sum = 0;
    for (let level = this.#deepest; level <= last; level++) sum += entriesIn(shift, level);
    return sum;
  }

  #removeRange(tag: number, hi: number, lo: number, shift: number, last: number, deadEnds: boolean): void {
    for (let level = this.#deepest; level <= last; level++) {
      const entries = entriesIn(shift, level);
      const bits = levelShift(level);
      const mask = shift >= 32 ? 0 : -1 << shift;
      let atLo = lo & mask;
      let atHi = shift >= 64 ? 0 : shift > 32 ? hi & (-1 << (shift - 32)) : hi;
      for (let entry = 0; entry < entries; entry++) {
        const slot = this.#find(pageOf(level, atHi, atLo), keyOf(tag, level, atHi));
        if (slot >= 0 && (!deadEnds || this.isDeadEnd(slot))) this.#words.fill(0, slot, slot + WORDS);
        if (bits >= 32) atHi = (atHi + (1 << (bits - 32))) | 0;
        else {
          atLo = (atLo + (1 << bits)) | 0;
          if (atLo === 0) atHi = (atHi + 1) | 0;
        }
      }
    }
  }

  /** Empties the table for good: all tags may be given out again. */
  #wipe(): void {
    this.#words.fill(0);
    this.#spaces.restartTags();
    this.#deepest = MAX_LEVEL + 1;
    this.#deadEnds = false;
  }
}

/** log2 of the bytes that an entry of `level` covers. */
function levelShift(level: number): number {
  return 3 + 9 * level;
}

function entriesIn(shift: number, level: number): number {
  const bits = levelShift(level);
  return shift > bits ? 2 ** (shift - bits) : 1;
}

/** Word PAGE of a key. */
function pageOf(level: number, hi: number, lo: number): number {
  return level === MAX_LEVEL ? 0 : ((hi << 20) | (lo >>> 12)) & (-1 << (9 * level - 9));
}

/** Word SPACE of a key. */
function keyOf(tag: number, level: number, hi: number): number {
  const top = level === MAX_LEVEL ? (hi >>> 16) << 4 : hi >>> 12;
  return (top << TOP_SHIFT) | (tag << TAG_SHIFT) | level;
}

function tagIn(key: number): number {
  return (key >>> TAG_SHIFT) & (TAGS - 1);
}
