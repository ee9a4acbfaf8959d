import test from 'ava';
import { Random } from '@remora/bits';
import { Access, Errno, type MemTx, Ram } from '@remora/core';
import { vtdConfig, type VtdConfig } from '../../config/index.js';
import { FrameAllocator, PageTable, type LeafShift } from '../../driver/index.js';
import { SCALABLE_SECOND_STAGE, SPECIFICATION } from '../behaviour.js';
import { Capabilities } from '../capabilities.js';
import { SecondStageMasks } from '../second-stage-masks.js';
import { AdUpdate, SecondStageWalk } from '../second-stage.js';
import type { MappedRange } from './mapped-range.js';
import { SecondStageRanges } from './second-stage-ranges.js';

const FRAMES = 2048;
const RW = Access.READ_WRITE;

class Tables {
  readonly ram = Ram.allocate(FRAMES * 4096);
  readonly pages = new FrameAllocator(this.ram, 1, FRAMES - 1);
  readonly caps: Capabilities;
  readonly ranges: SecondStageRanges;
  readonly walk: SecondStageWalk;
  loads = 0;

  constructor(options: Partial<VtdConfig> = {}) {
    this.caps = new Capabilities(vtdConfig({ 'aw-bits': 57, ...options }));
    const counting = {
      load: (hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx => {
        this.loads++;
        return this.ram.load(hi, lo, out, at, count);
      },
      store: this.ram.store.bind(this.ram),
      read: this.ram.read.bind(this.ram),
      write: this.ram.write.bind(this.ram),
    };
    this.ranges = new SecondStageRanges(this.caps, counting, new SecondStageMasks(this.caps, SPECIFICATION));
    this.walk = new SecondStageWalk(this.caps, SPECIFICATION, this.ram, undefined);
  }

  table(levels: 3 | 4 | 5, largestLeaf: LeafShift = 12): PageTable {
    return new PageTable(this.ram, this.pages, { stage: 'second', levels, largestLeaf });
  }

  collect(
    { rootFrame, levels }: Pick<PageTable, 'rootFrame' | 'levels'>,
    start = 0,
    end = 2 ** 52,
  ): MappedRange[] | number {
    const found: MappedRange[] = [];
    const result = this.ranges.collect({ rootHi: 0, rootLo: rootFrame << 12, levels }, start, end, found);
    return result === 0 ? found : result;
  }

  /** One page, as a request would find it: the frame times 4, and Access bits; 0 if it faults. */
  page({ rootFrame, levels }: PageTable, frame: number): number {
    let access = 0;
    for (const wanted of [Access.READ, Access.WRITE]) {
      const [hi, lo] = [Math.floor(frame / 0x10_0000), (frame % 0x10_0000) << 12];
      const faults = SCALABLE_SECOND_STAGE;
      const reason = this.walk.walk(0, rootFrame << 12, levels, hi, lo, wanted, faults, AdUpdate.OFF, false, 0);
      if (reason === 0) access |= wanted;
      else continue;
      const offset = frame % 2 ** (this.walk.shift - 12);
      this.#last = (this.walk.hi >>> 0) * 0x10_0000 + (this.walk.lo >>> 12) + offset;
    }
    return access === 0 ? 0 : this.#last * 4 + access;
  }

  #last = 0;

  write(frame: number, index: number, lo: number, hi = 0): void {
    this.ram.store(0, (frame << 12) | (index << 3), Int32Array.of(lo, hi), 0, 2);
  }
}

for (const levels of [3, 4, 5] as const) {
  test(`a table of ${levels} levels: what the driver says it maps`, t => {
    const random = new Random(levels);
    const tables = new Tables();
    const table = tables.table(levels, 30);
    const top = 2 ** (9 * levels);
    for (let i = 0; i < 200; i++) {
      const large = random.below(4) === 0 ? 512 : 1;
      const at = [0, top / 2, top - 2 ** 16][i % 3]! + random.below(2 ** 16 / large) * large;
      table.map(at, random.below(1000) * large, (1 + random.below(9)) * large, 1 + random.below(3));
    }
    const expected = [...table.mappings()].map(({ iovaFrame, frame, pages, access }) => {
      return { frame: iovaFrame, pages, outFrame: frame, access };
    });
    t.true(expected.length > 100);
    t.deepEqual(tables.collect(table), expected);
    // Part by part, it is the same, but for the cuts.
    const pages = (ranges: readonly MappedRange[]): number => ranges.reduce((sum, range) => sum + range.pages, 0);
    let sum = 0;
    for (let start = 0; start < 2 ** 16; start += 777) {
      const found = tables.collect(table, start, start + 777) as MappedRange[];
      t.true(found.every(range => range.frame >= start && range.frame + range.pages <= start + 777));
      sum += pages(found);
    }
    const low = tables.collect(table, 0, Math.ceil(2 ** 16 / 777) * 777) as MappedRange[];
    t.is(sum, pages(low));
  });
}

test('what the walk of a request finds, page by page, in damaged tables too', t => {
  let mapped = 0;
  let faults = 0;
  for (let seed = 0; seed < 60; seed++) {
    const random = new Random(seed);
    const tables = new Tables({ 'snoop-control': seed % 2 === 0, 'aw-bits': 48 });
    const table = tables.table(4, 30);
    for (let i = 0; i < 12; i++) {
      const large = random.below(3) === 0 ? 512 : 1;
      table.map(
        random.below(2048 / large) * large,
        random.below(64) * large,
        (1 + random.below(40)) * large,
        1 + random.below(3),
      );
    }
    // Chosen first: the driver cannot walk what is damaged.
    const entries = Array.from({ length: 25 }, () => {
      const { steps } = table.walk(random.below(2048));
      // Seldom one that much depends on.
      return steps[Math.max(0, steps.length - 1 - (random.below(6) === 0 ? random.below(3) : 0))]!;
    });
    for (const { table: frame, index, hi, lo } of entries) {
      const bit = 1 << random.below(32);
      if (random.below(2) === 0) tables.write(frame, index, lo ^ bit, hi);
      else tables.write(frame, index, lo, hi ^ bit);
    }
    const found = tables.collect(table, 0, 2048);
    t.true(Array.isArray(found));
    const pages = new Map<number, number>();
    for (const { frame, pages: count, outFrame, access } of found as MappedRange[]) {
      for (let page = 0; page < count; page++) pages.set(frame + page, (outFrame + page) * 4 + access);
    }
    for (let page = 0; page < 2048; page++) {
      const expected = tables.page(table, page);
      if (expected === 0) faults++;
      else mapped++;
      if ((pages.get(page) ?? 0) !== expected)
        t.fail(`seed ${seed}, page ${page}: ${pages.get(page)}, not ${expected}`);
    }
  }
  t.true(mapped > 5000 && faults > 5000, `${mapped} mapped, ${faults} not`);
});

test('a page of a large table costs as many reads as it has levels', t => {
  const tables = new Tables();
  const table = tables.table(5);
  t.is(table.map(0x1234_5678, 7, 1, RW), 0);
  tables.loads = 0;
  t.deepEqual(tables.collect(table, 0x1234_5678, 0x1234_5679), [
    { frame: 0x1234_5678, pages: 1, outFrame: 7, access: RW },
  ]);
  t.is(tables.loads, 5);
});

test('the interrupt range is left out, whatever maps it', t => {
  const tables = new Tables();
  const table = tables.table(3, 30);
  t.is(table.map(0xc_0000, 0, 2 ** 18, RW), 0);
  t.deepEqual(tables.collect(table), [
    { frame: 0xc_0000, pages: 0x3_ee00, outFrame: 0, access: RW },
    { frame: 0xf_ef00, pages: 0x1100, outFrame: 0x3_ef00, access: RW },
  ]);
  t.deepEqual(tables.collect(table, 0xf_ee10, 0xf_eef0), []);
  t.deepEqual(tables.collect(table, 0xf_eeff, 0xf_ef01), [
    { frame: 0xf_ef00, pages: 1, outFrame: 0x3_ef00, access: RW },
  ]);
  const high = tables.table(4);
  t.is(high.map(0x1f_ee00, 5, 1, RW), 0);
  t.deepEqual(
    tables.collect(high),
    [{ frame: 0x1f_ee00, pages: 1, outFrame: 5, access: RW }],
    'above 4 GiB it is an address like others',
  );
});

test('nothing is found beyond the width, at the end of memory, or in no memory', t => {
  const tables = new Tables({ 'aw-bits': 39 });
  const table = tables.table(4);
  t.is(table.map(2 ** 27 - 1, 5, 2, RW), 0);
  t.deepEqual(tables.collect(table), [{ frame: 2 ** 27 - 1, pages: 1, outFrame: 5, access: RW }]);
  t.deepEqual(tables.collect({ rootFrame: FRAMES, levels: 4 }), []);
  t.deepEqual(tables.collect(table, 5, 5), []);
});

test('tables that end nowhere, or are too many, are an error and no endless walk', t => {
  const tables = new Tables();
  // Every entry leads to the table itself.
  const circle = tables.pages.allocate(1);
  for (let index = 0; index < 512; index++) tables.write(circle, index, (circle << 12) | 3);
  t.is(tables.collect({ rootFrame: circle, levels: 4 }), -Errno.E2BIG);
  // All branches share their tables, and there is nothing at the end of them.
  const chain = Array.from({ length: 4 }, () => tables.pages.allocate(1));
  for (const [at, frame] of chain.slice(0, 3).entries()) {
    for (let index = 0; index < 512; index++) tables.write(frame, index, (chain[at + 1]! << 12) | 3);
  }
  tables.loads = 0;
  t.is(tables.collect({ rootFrame: chain[0]!, levels: 4 }), -Errno.E2BIG);
  t.true(tables.loads <= 2 ** 18);
  t.deepEqual(
    tables.collect({ rootFrame: chain[0]!, levels: 4 }, 0, 2 ** 18),
    [],
    'a part of it is no more than a part',
  );
});
