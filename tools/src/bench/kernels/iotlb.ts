/** The IOTLB by itself: hits, page-selective invalidation, flushes. */
import { frameHi, frameLo, Random } from '@remora/bits';
import { Iotlb } from '@remora/iommu';
import { leave, mix, type MakeKernel } from './kernel.js';

/** Address spaces: 16 domains with four PASIDs each. */
const SPACES = 64;
const DOMAINS = 16;
const KIND = 1;
const ACCESS = 3;
const LOOKUPS = 2 ** 17;
/** Shifts of the page sizes, and where pages of each are: pages of different size do not overlap. */
const SIZES = [12, 21, 30] as const;
const FIRST_PAGES = [1, 2 ** 22, 2 ** 23] as const;
const LAST_PAGE = 2 ** 24;
/** Words of a translation: address space, page, shift, where it leads. */
const WORDS = 6;

/** An IOTLB and what is to be in it. */
class Table {
  tlb: Iotlb;
  asids: number[] = [];
  keys: Int32Array;
  readonly #entries: number;

  constructor(entries: number, keys: Int32Array) {
    this.#entries = entries;
    this.keys = keys;
    this.tlb = this.fresh();
  }

  fresh(): Iotlb {
    this.tlb = new Iotlb(this.#entries);
    this.asids = Array.from({ length: SPACES }, (_, space) => this.tlb.asid(domainOf(space), pasidOf(space), KIND));
    return this.tlb;
  }

  fill(): void {
    this.fresh();
    this.insert(this.keys);
  }

  insert(keys: Int32Array): void {
    const { tlb, asids } = this;
    for (let at = 0; at < keys.length; at += WORDS) {
      const asid = asids[keys[at]!]!;
      tlb.insert(asid, keys[at + 1]!, keys[at + 2]!, keys[at + 3]!, keys[at + 4]!, keys[at + 5]!, ACCESS);
    }
  }

  /** The translations of the address spaces that `wanted` chooses. */
  keysOf(wanted: (space: number) => boolean): Int32Array {
    const chosen = this.keys.slice();
    let kept = 0;
    for (let at = 0; at < chosen.length; at += WORDS) {
      if (!wanted(chosen[at]!)) continue;
      chosen.copyWithin(kept, at, at + WORDS);
      kept += WORDS;
    }
    return chosen.slice(0, kept);
  }

  /** Leaves out what is not in the table now. Returns whether that was nothing. */
  dropMissing(): boolean {
    const { tlb, asids, keys } = this;
    let kept = 0;
    for (let at = 0; at < keys.length; at += WORDS) {
      if (tlb.lookup(asids[keys[at]!]!, keys[at + 1]!, keys[at + 2]!) < 0) continue;
      keys.copyWithin(kept, at, at + WORDS);
      kept += WORDS;
    }
    const all = kept === keys.length;
    this.keys = keys.slice(0, kept);
    return all;
  }

  /** What is in the table of what was put into it. */
  contents(): number {
    const { tlb, asids, keys } = this;
    let sum = 0;
    for (let at = 0; at < keys.length; at += WORDS) {
      const slot = tlb.lookup(asids[keys[at]!]!, keys[at + 1]!, keys[at + 2]!);
      sum = slot < 0 ? mix(sum, 1) : mix(mix(sum, tlb.lo(slot)), tlb.hi(slot));
    }
    return sum;
  }
}

function domainOf(space: number): number {
  return 1 + (space % DOMAINS);
}

function pasidOf(space: number): number {
  return 1 + Math.floor(space / DOMAINS);
}

function randomKeys(entries: number, random: Random, sizes: number): Int32Array {
  const keys = new Int32Array(entries * WORDS);
  for (let i = 0; i < entries; i++) {
    const tenth = i % 10;
    const size = sizes === 1 || tenth < 7 ? 0 : tenth < 9 ? 1 : 2;
    const first = FIRST_PAGES[size]!;
    const end = sizes === 1 ? LAST_PAGE : (FIRST_PAGES[size + 1] ?? LAST_PAGE);
    const shift = SIZES[size]!;
    const align = 2 ** (shift - 12);
    const page = Math.floor((first + random.below(end - first)) / align) * align;
    const out = Math.floor(random.below(2 ** 32) / align) * align;
    keys.set([random.below(SPACES), frameHi(page), frameLo(page), shift, frameHi(out), frameLo(out)], i * WORDS);
  }
  return keys;
}

/** A table for `entries` translations; the few that a full set pushes out, in whatever `use` does, are left out. */
function tableOf(entries: number, random: Random, sizes: number, use: (table: Table) => void = () => undefined): Table {
  const table = new Table(entries, randomKeys(entries, random, sizes));
  for (let settled = false; !settled;) {
    table.fill();
    settled = table.dropMissing();
    if (!settled) continue;
    use(table);
    settled = table.dropMissing();
  }
  table.fill();
  return table;
}

/** Lookups that hit, in random order, pages of 4 KiB. */
export const hit: MakeKernel = (entries, folder) => {
  const random = new Random(entries);
  const table = tableOf(entries, random, 1);
  const { tlb, asids, keys } = table;
  const lookups = new Int32Array(LOOKUPS * 3);
  for (let i = 0; i < LOOKUPS; i++) {
    const at = random.below(keys.length / WORDS) * WORDS;
    lookups.set([keys[at]!, keys[at + 1]!, keys[at + 2]! | random.below(4096)], i * 3);
  }
  leave(folder, 'keys', keys);
  leave(folder, 'lookups', lookups);
  let sum = 0;
  return {
    run() {
      sum = 0;
      for (let i = 0; i < lookups.length; i += 3) {
        const slot = tlb.lookup(asids[lookups[i]!]!, lookups[i + 1]!, lookups[i + 2]!);
        sum = mix(mix(sum, tlb.lo(slot)), (tlb.hi(slot) << 8) | tlb.access(slot));
      }
      return LOOKUPS;
    },
    checksum: () => sum,
  };
};

/** Page-selective invalidations of 2^`mask` pages, with three page sizes in the table. */
export function invalidatePages(mask: number): MakeKernel {
  return (entries, folder) => {
    const random = new Random(entries + mask);
    const table = tableOf(entries, random, 3);
    const { keys } = table;
    // Against a table that is read as a whole each time: few enough that it takes no minute.
    const ranges = new Int32Array(Math.min(256, entries / 16, 2 ** 23 / entries) * 3);
    for (let i = 0; i < ranges.length; i += 3) {
      const at = random.below(keys.length / WORDS) * WORDS;
      const within = random.below(2 ** (keys[at + 3]! - 12)) * 4096;
      ranges.set([keys[at]!, keys[at + 1]!, keys[at + 2]! | within], i);
    }
    leave(folder, 'keys', keys);
    leave(folder, 'ranges', ranges);
    leave(folder, 'setup', Int32Array.of(mask));
    const run = (): number => {
      const { tlb, asids } = table;
      for (let i = 0; i < ranges.length; i += 3) {
        tlb.invalidatePages(asids[ranges[i]!]!, ranges[i + 1]!, ranges[i + 2]!, 12 + mask);
      }
      return ranges.length / 3;
    };
    // A run is short. It is measured as the code runs in a process that has invalidated before.
    for (let i = 0; i < 2000; i++) run();
    return { before: () => table.fill(), run, checksum: () => table.contents() };
  };
}

type Scope = 'domain' | 'pasid' | 'global';
const SCOPES: readonly Scope[] = ['domain', 'pasid', 'global'];

/** Flushes before the measured one, of a table of their own: a VMM that is asked for one flush has done others. */
const EARLIER_FLUSHES = 5000;

/** One flush of a full table, of which nothing is in the processor's caches; with `refill`, what it removed is put back. */
export function flush(scope: Scope, refill: boolean): MakeKernel {
  return (entries, folder) => {
    const covers = (space: number): boolean =>
      scope === 'global' || (scope === 'domain' ? domainOf(space) === domainOf(0) : space === 0);
    const flushOnce = ({ tlb, asids }: Table): void => {
      if (scope === 'global') tlb.invalidateAll();
      else if (scope === 'domain') tlb.invalidateDomain(domainOf(0));
      else tlb.invalidateAsid(asids[0]!);
    };
    const table = tableOf(entries, new Random(entries), 1, each => {
      flushOnce(each);
      each.insert(each.keysOf(covers));
    });
    const flushed = table.keysOf(covers);
    leave(folder, 'keys', table.keys);
    leave(folder, 'flushed', flushed);
    leave(folder, 'setup', Int32Array.of(SCOPES.indexOf(scope)));
    const run = (each: Table): number => {
      flushOnce(each);
      if (refill) each.insert(each === table ? flushed : each.keys);
      return 1;
    };
    const small = tableOf(16, new Random(1), 1);
    for (let i = 0; i < EARLIER_FLUSHES; i++) run(small);
    return { before: () => table.fill(), run: () => run(table), checksum: () => table.contents() };
  };
}
