/**
 * Paging-structure caches: non-leaf entries stay in force until an invalidation says that tables changed, too (vtd.md 5.3, 5.4, 5.11, 9).
 * Each probe asks for a page that nobody asked for before, so that no translation of it is cached.
 */
import { Access, Inspector } from '@remora/core';
import test from 'ava';
import {
  ContextCacheDescriptor,
  GlobalCommand,
  IotlbDescriptor,
  PasidCacheDescriptor,
  PasidIotlbDescriptor,
  Pgtt,
  Reg,
} from '../spec/index.js';
import { DID, FULL, legacyBench, scalableBench, type Bench, type Values } from './bench.test.helper.js';

const { READ, WRITE } = Access;
const RW = 3n;
const PTE = 0x67n;
/** Nested: the first stage's tables are below 1 GiB, mapped as they are; its pages lead beyond. */
const LOW_GIB = 0x83n;
const GUEST_PAGES = 0x4000_0000n;
/** What is asked for; bit 39 and bit 48 are set where the table has them. */
const BASE = 0x7000n;
const OLD = 0x80_0000n;
const NEW = 0x90_0000n;
const PROBES = 8;

type Kind = 'legacy' | 'second' | 'first' | 'nested' | 'under';

/** A table whose entry of `level` was used and then made to lead to another table, which nobody told the unit. */
class Moved {
  readonly bench: Bench;
  readonly #base: bigint;
  readonly #pasid: number;
  #probed = 0;

  constructor(kind: Kind, levels: number, level: number, pasid = -1) {
    this.#pasid = pasid;
    this.#base = BASE | (levels > 3 ? 1n << 39n : 0n) | (levels > 4 ? 1n << 48n : 0n);
    const wide = levels === 5 ? { 'aw-bits': 57 as const } : levels === 3 ? { 'aw-bits': 39 as const } : {};
    let root: number;
    let bits = RW;
    if (kind === 'legacy') {
      const { bench, second } = legacyBench(wide, {}, levels);
      this.bench = bench;
      root = second;
    } else {
      const pgtt = {
        legacy: 0,
        second: Pgtt.SECOND_STAGE,
        first: Pgtt.FIRST_STAGE,
        nested: Pgtt.NESTED,
        under: Pgtt.NESTED,
      }[kind];
      const first5 = levels === 5 && (kind === 'first' || kind === 'nested');
      const { bench, second, first } = scalableBench(
        { ...FULL, ...wide },
        { pgtt, ...(first5 ? { fspm: 1 } : {}), ...(kind === 'first' || kind === 'nested' ? {} : { aw: levels - 2 }) },
      );
      this.bench = bench;
      const firstStage = kind === 'first' || kind === 'nested';
      if (kind === 'nested' || kind === 'under') bench.mapAt(second, kind === 'under' ? levels : 4, 0n, LOW_GIB, RW, 3);
      root = firstStage ? first : second;
      if (firstStage) bits = PTE;
      if (kind === 'under') {
        // The first stage stays as it is: each page leads to the one that is probed in the second.
        this.#base = GUEST_PAGES;
        for (let i = 0n; i < PROBES; i++) bench.mapAt(first, 4, this.#address(i), this.#address(i) | PTE, PTE);
      }
    }
    const other = this.bench.page();
    for (let i = 0n; i < PROBES; i++) {
      const at = this.#address(i);
      this.bench.mapAt(root, levels, at, (OLD + i * 0x1000n) | bits, bits);
      this.bench.mapAt(other, level - 1, at, (NEW + i * 0x1000n) | bits, bits);
    }
    this.probe();
    this.bench.mapAt(root, levels, this.#base, (BigInt(other) << 12n) | bits, bits, level);
  }

  /** The address that is asked for first. */
  get page(): bigint {
    return this.#base >> 12n;
  }

  /** Where the next page leads to. */
  probe(access: number = READ): 'old' | 'new' | number {
    const index = BigInt(this.#probed++);
    const outcome = this.bench.request(this.#address(index), access, this.#pasid);
    if ('fault' in outcome) return outcome.fault;
    const base = BigInt(outcome.to) - index * 0x1000n;
    return base === OLD ? 'old' : base === NEW ? 'new' : -1;
  }

  #address(index: bigint): bigint {
    return this.#base + index * 0x1000n;
  }
}

const CC = ContextCacheDescriptor;
const TLB = IotlbDescriptor;
const PC = PasidCacheDescriptor;
const PTLB = PasidIotlbDescriptor;

type Command = readonly [name: string, layout: typeof CC | typeof TLB | typeof PC | typeof PTLB, values: Values];

/** All commands, for an entry of `level` on the way to page `page`. */
function commands(level: number, page: bigint): Command[] {
  const beyond = page ^ (1n << BigInt(9 * level - 9));
  const within = page ^ 0x100n;
  return [
    ['CC global', CC, { type: 1, g: 1 }],
    ['CC device', CC, { type: 1, g: 3, did: DID, sid: 0x0113 }],
    ['PC global', PC, { type: 7, g: 3 }],
    ['PC PASID', PC, { type: 7, g: 1, did: DID, pasid: 0 }],
    ['IOTLB global', TLB, { type: 2, g: 1 }],
    ['IOTLB domain', TLB, { type: 2, g: 2, did: DID }],
    ['IOTLB other domain', TLB, { type: 2, g: 2, did: DID + 1 }],
    ['IOTLB page', TLB, { type: 2, g: 3, did: DID, addr: page }],
    ['IOTLB page within', TLB, { type: 2, g: 3, did: DID, addr: within }],
    ['IOTLB page beyond', TLB, { type: 2, g: 3, did: DID, addr: beyond }],
    ['IOTLB page of other domain', TLB, { type: 2, g: 3, did: DID + 1, addr: page }],
    ['IOTLB 512 pages', TLB, { type: 2, g: 3, did: DID, addr: page, am: 9 }],
    ['IOTLB page, IH', TLB, { type: 2, g: 3, did: DID, addr: page, ih: 1 }],
    ['IOTLB 512 pages, IH', TLB, { type: 2, g: 3, did: DID, addr: page, am: 9, ih: 1 }],
    ['PIOTLB PASID', PTLB, { type: 6, g: 2, did: DID, pasid: 0 }],
    ['PIOTLB other PASID', PTLB, { type: 6, g: 2, did: DID, pasid: 1 }],
    ['PIOTLB PASID of other domain', PTLB, { type: 6, g: 2, did: DID + 1, pasid: 0 }],
    ['PIOTLB page', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: page }],
    ['PIOTLB page within', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: within }],
    ['PIOTLB page beyond', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: beyond }],
    ['PIOTLB page of other PASID', PTLB, { type: 6, g: 3, did: DID, pasid: 1, addr: page }],
    ['PIOTLB 8 pages', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: page, am: 3 }],
    ['PIOTLB everything by mask', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 0, am: 52 }],
    ['PIOTLB page, IH', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: page, ih: 1 }],
    ['PIOTLB everything by mask, IH', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 0, am: 52, ih: 1 }],
  ];
}

const SECOND_STAGE = [
  ...['IOTLB global', 'IOTLB domain', 'IOTLB page', 'IOTLB page within', 'IOTLB 512 pages'],
] as const;
const FIRST_STAGE = [
  ...[...SECOND_STAGE, 'IOTLB page beyond'],
  ...['PIOTLB PASID', 'PIOTLB page', 'PIOTLB page within', 'PIOTLB 8 pages', 'PIOTLB everything by mask'],
] as const;

/** Every command, each on a unit of its own: exactly those of `noticed` make the unit read the tables anew. */
function matrix(kind: Kind, levels: number, level: number, noticed: readonly string[]): void {
  test(`${kind}, ${levels} levels: an entry of level ${level}`, t => {
    const { page } = new Moved(kind, levels, level);
    for (const [name, layout, values] of commands(level, page)) {
      if (kind === 'legacy' && Number(values['type']) > 5) continue;
      const moved = new Moved(kind, levels, level);
      t.is(moved.probe(), 'old', 'no command yet');
      moved.bench.enableQueue(kind !== 'legacy');
      t.true(moved.bench.submit(layout as never, values), name);
      t.is(moved.probe(), noticed.includes(name) ? 'new' : 'old', name);
    }
  });
}

for (const levels of [3, 4, 5]) {
  for (let level = 2; level <= levels; level++) {
    matrix('legacy', levels, level, SECOND_STAGE);
    matrix('second', levels, level, SECOND_STAGE);
    if (levels > 3) matrix('first', levels, level, FIRST_STAGE);
    if (levels > 3) matrix('nested', levels, level, FIRST_STAGE);
  }
}
// The first stage's tables are reached by the top-level entries, too.
for (const level of [2, 3]) matrix('under', 4, level, SECOND_STAGE);

test('register commands obey IH as descriptors do', t => {
  for (const [hint, seen] of [
    [0x40n, 'old'],
    [0n, 'new'],
  ] as const) {
    const moved = new Moved('legacy', 4, 2);
    const { bench } = moved;
    const at = bench.unit.capabilities.iotlbBase;
    bench.write64(at, (moved.page << 12n) | hint);
    bench.write64(at + 8, (0xbn << 60n) | (BigInt(DID) << 32n));
    t.is(bench.read64(at + 8) >> 57n, (3n << 3n) | 3n, 'done for pages');
    t.is(moved.probe(), seen);
  }
});

test('SRTP and reset empty them; TE does not', t => {
  for (const kind of ['legacy', 'first', 'nested'] as const) {
    const moved = new Moved(kind, 4, 3);
    moved.bench.write32(Reg.GCMD, 0);
    moved.bench.command(GlobalCommand.TE);
    t.is(moved.probe(), 'old');
    moved.bench.command(GlobalCommand.SRTP);
    t.is(moved.probe(), 'new');
  }
  const { bench } = new Moved('legacy', 4, 2);
  t.deepEqual(cached(bench), { 'level 2': 1, 'level 3': 1, 'level 4': 1 });
  bench.unit.reset();
  t.deepEqual(cached(bench), {});
});

/** What inspect() says of the caches. */
function cached(bench: Bench): unknown {
  const into = new Inspector();
  bench.unit.inspect(into);
  return (into.toJSON() as { caches: { pagingStructures: unknown } }).caches.pagingStructures;
}

/** The entry of level 2 on the way to the pages 5 to 9, which lead to 0x50000 and so on. */
function fivePages(tables: { bench: Bench; second: number }): number {
  const { bench, second } = tables;
  let entry = second * 4096;
  for (const page of [5n, 6n, 7n, 8n, 9n]) bench.mapAt(second, 4, page << 12n, (page << 16n) | RW, RW);
  for (const index of [0, 0]) entry = Number(bench.get64(entry + index * 8) & ~0xfffn);
  return entry;
}

test('an entry that lost a right, or all of them, grants and leads as before; those below count as they are', t => {
  for (const left of [1n, 0n]) {
    const tables = legacyBench();
    const { bench } = tables;
    const entry = fivePages(tables);
    const before = bench.get64(entry);
    t.deepEqual(bench.request(0x5000, WRITE), { to: 0x5_0000, shift: 12, access: 7 });
    bench.put64(entry, (before & ~3n) | left);
    t.deepEqual(bench.request(0x6000, WRITE), { to: 0x6_0000, shift: 12, access: 7 }, 'still writable');
    const leaf = Number(before & ~0xfffn) + 7 * 8;
    bench.put64(leaf, 0x7_0001n);
    t.is(bench.fault(0x7000, WRITE), 0x05, 'a leaf that was never asked for');
    bench.enableQueue(false);
    bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 8, ih: 1 });
    t.deepEqual(bench.request(0x8000, WRITE), { to: 0x8_0000, shift: 12, access: 7 });
    bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 9 });
    t.is(bench.fault(0x9000, WRITE), 0x05);
    t.is(bench.fault(0x9000, READ), left === 1n ? 0 : 0x06);
  }
});

test('a right that an entry did not grant is not granted below it before an invalidation', t => {
  const tables = legacyBench();
  const { bench } = tables;
  const entry = fivePages(tables);
  bench.put64(entry, bench.get64(entry) & ~2n);
  t.is(bench.fault(0x5000, READ), 0);
  bench.put64(entry, bench.get64(entry) | 2n);
  t.is(bench.fault(0x6000, WRITE), 0x05);
  bench.enableQueue(false);
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 6 });
  t.is(bench.fault(0x6000, WRITE), 0);
});

test('first stage: U/S, R/W and XD of the tables above count as they were', t => {
  for (const [pasidAccess, before, after, refused] of [
    [READ, PTE, PTE & ~4n, 0x81],
    [WRITE, PTE, PTE & ~2n, 0x85],
    [READ | Access.EXECUTE, PTE, PTE | (1n << 63n), 0x82],
  ] as const) {
    const { bench, first } = scalableBench(
      { ...FULL, 'x-pasid-mode': true },
      { pgtt: Pgtt.FIRST_STAGE },
      { paside: 1 },
    );
    for (const page of [5n, 6n, 7n]) bench.mapAt(first, 4, page << 12n, (page << 16n) | PTE, before);
    t.is(bench.fault(0x5000, pasidAccess, 0), 0);
    const entry = Number(bench.get64(Number(bench.get64(first * 4096) & ~0xfffn)) & ~0xfffn);
    bench.put64(entry, (bench.get64(entry) & ~PTE) | after);
    t.is(bench.fault(0x6000, pasidAccess, 0), 0);
    bench.enableQueue(true);
    bench.submit(PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 6 });
    t.is(bench.fault(0x7000, pasidAccess, 0), refused);
  }
});

test('A is set when an entry is cached, and not again while it is', t => {
  const { bench, second } = scalableBench(FULL, { pgtt: Pgtt.SECOND_STAGE, ssade: 1, pwsnp: 1 });
  const A = 0x100n;
  const entry = fivePages({ bench, second });
  t.is(bench.fault(0x5000), 0);
  t.is(bench.get64(entry) & A, A);
  bench.put64(entry, bench.get64(entry) & ~A);
  t.is(bench.fault(0x6000), 0);
  t.is(bench.get64(entry) & A, 0n);
  bench.enableQueue(true);
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 6, ih: 1 });
  t.is(bench.fault(0x7000), 0);
  t.is(bench.get64(entry) & A, 0n);
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 6 });
  t.is(bench.fault(0x8000), 0);
  t.is(bench.get64(entry) & A, A);
});

test('a walk reads only what it does not know', t => {
  const loads = (bench: Bench, address: number): number => {
    const before = bench.memory.loads;
    bench.request(address);
    return bench.memory.loads - before;
  };
  const legacy = legacyBench();
  fivePages(legacy);
  legacy.bench.request(0x5000);
  t.is(loads(legacy.bench, 0x6000), 1, 'the leaf');
  const { bench, second, first } = scalableBench(FULL, { pgtt: Pgtt.NESTED });
  bench.mapAt(second, 4, 0n, LOW_GIB, RW, 3);
  for (const page of [5n, 6n]) bench.mapAt(first, 4, page << 12n, (page << 16n) | PTE, PTE);
  bench.request(0x5000);
  t.is(loads(bench, 0x6000), 3, 'the leaf, and a second-stage leaf for its table and one for its page');
});
