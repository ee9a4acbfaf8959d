/**
 * vtd.md 4.2 to 4.6 and 8.3: the order of checks. Two things are wrong at once, for every pair: the fault is that of the earlier step,
 * and only one is reported.
 */
import { Access } from '@remora/core';
import test from 'ava';
import { FULL, legacyBench, NOWHERE, scalableBench, type Bench, type Values } from '../bench.test.helper.js';
import { InterruptBench } from '../interrupt-bench.test.helper.js';
import { nestedTables } from './nested-tables.test.helper.js';

const { READ, WRITE, EXECUTE, PRIVILEGED } = Access;
const IOVA = 0x5000n;
const ABSENT = BigInt(NOWHERE * 4096);
const BIT62 = 1n << 62n;

/** A request, and the root table that is latched before it. */
interface Attempt {
  rta: number;
  ttm: number;
  iova: bigint;
  access: number;
  pasid: number;
}

type Made = Pick<ReturnType<typeof scalableBench>, 'bench' | 'rootEntry' | 'context' | 'second'> & {
  readonly directory?: number;
  readonly entry?: number;
  readonly first?: number;
};

interface Step<T> {
  readonly reason: number;
  spoil(tables: T, attempt: Attempt): void;
}

function reasonOf<T extends Made>(tables: T, ttm: number, steps: readonly Step<T>[]): number {
  const { bench, rootEntry } = tables;
  const attempt: Attempt = { rta: Math.floor(rootEntry / 4096), ttm, iova: IOVA, access: READ, pasid: -1 };
  for (const step of steps) step.spoil(tables, attempt);
  bench.setRoot(attempt.rta, attempt.ttm);
  const reason = bench.fault(attempt.iova, attempt.access, attempt.pasid);
  if (reason !== 0 && bench.offered.length !== 1) throw new Error(`${bench.offered.length} faults for one request`);
  return reason;
}

function ordered<T extends Made>(title: string, make: () => T, ttm: number, steps: readonly Step<T>[]): void {
  test(title, t => {
    t.is(reasonOf(make(), ttm, []), 0, 'nothing is wrong');
    for (const [i, earlier] of steps.entries()) {
      t.is(reasonOf(make(), ttm, [earlier]), earlier.reason, `step ${i}`);
      for (const [j, later] of steps.entries()) {
        if (j > i) t.is(reasonOf(make(), ttm, [later, earlier]), earlier.reason, `steps ${i} and ${j}`);
      }
    }
  });
}

/** Changes a quadword in memory. */
const alter = (bench: Bench, address: number, change: (value: bigint) => bigint): void =>
  bench.put64(address, change(bench.get64(address)));

function legacyTables(): ReturnType<typeof legacyBench> {
  const tables = legacyBench();
  tables.bench.mapAt(tables.second, 4, IOVA, 0x9003n, 3n);
  return tables;
}

ordered('4.2, 4.3, 4.5: legacy mode, every pair of steps', legacyTables, 0, [
  { reason: 0x30, spoil: (_, attempt) => (attempt.ttm = 2) },
  { reason: 0x31, spoil: (_, attempt) => (attempt.pasid = 5) },
  { reason: 0x08, spoil: (_, attempt) => (attempt.rta = NOWHERE) },
  { reason: 0x01, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => value & ~1n) },
  { reason: 0x0a, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry + 8, value => value | 1n) },
  { reason: 0x09, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x02, spoil: ({ bench, context }) => alter(bench, context, value => value & ~1n) },
  { reason: 0x0b, spoil: ({ bench, context }) => alter(bench, context + 8, value => value | 0x80n) },
  { reason: 0x03, spoil: ({ bench, context }) => alter(bench, context, value => value | 0xcn) },
  { reason: 0x04, spoil: (_, attempt) => (attempt.iova |= 1n << 48n) },
  { reason: 0x03, spoil: ({ bench, context }) => alter(bench, context, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x07, spoil: ({ bench, second }) => alter(bench, second * 4096, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x06, spoil: ({ bench, second }) => bench.mapAt(second, 4, IOVA, 0x9000n, 3n) },
]);

ordered('4.5 steps 2 to 7: a legacy leaf, every pair of what can be wrong with it', legacyTables, 0, [
  { reason: 0x0c, spoil: tables => leaf(tables, value => value | BIT62) },
  {
    reason: 0x05,
    spoil: (tables, attempt) => {
      attempt.access = WRITE;
      leaf(tables, value => value & ~2n);
    },
  },
  { reason: 0x0e, spoil: tables => leaf(tables, value => 0xfee0_0000n | (value & (0xfffn | BIT62))) },
]);

function scalableTables(entry: Values = {}, leafBits = 3n): ReturnType<typeof scalableBench> {
  const tables = scalableBench({ ...FULL, 'x-rps': true }, entry, { paside: 1 });
  tables.bench.mapAt(tables.second, 4, IOVA, 0x9000n | leafBits, 3n);
  return tables;
}

type Scalable = ReturnType<typeof scalableBench>;

const LOOKUP: readonly Step<Scalable>[] = [
  { reason: 0x38, spoil: (_, attempt) => (attempt.rta = NOWHERE) },
  { reason: 0x39, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => value & ~1n) },
  { reason: 0x3a, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => value | 2n) },
  { reason: 0x40, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x41, spoil: ({ bench, context }) => alter(bench, context, value => value & ~1n) },
  { reason: 0x42, spoil: ({ bench, context }) => alter(bench, context + 16, value => value | 1n) },
  { reason: 0x43, spoil: ({ bench, context }) => alter(bench, context + 8, value => value | 0xf_ffffn) },
];

const ENTRY: readonly Step<Scalable>[] = [
  { reason: 0x50, spoil: ({ bench, context }) => alter(bench, context, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x51, spoil: ({ bench, directory }) => alter(bench, directory * 4096, value => value & ~1n) },
  { reason: 0x52, spoil: ({ bench, directory }) => alter(bench, directory * 4096, value => value | 4n) },
  { reason: 0x58, spoil: ({ bench, directory }) => alter(bench, directory * 4096, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x59, spoil: ({ bench, entry }) => alter(bench, entry, value => value & ~1n) },
  { reason: 0x5a, spoil: ({ bench, entry }) => alter(bench, entry + 24, value => value | 1n) },
  { reason: 0x5b, spoil: ({ bench, entry }) => alter(bench, entry, value => (value & ~0x1cn) | 0x1cn) },
];

const SECOND_STAGE: readonly Step<Scalable>[] = [
  { reason: 0x84, spoil: (_, attempt) => (attempt.iova |= 1n << 48n) },
  { reason: 0x7b, spoil: ({ bench, entry }) => alter(bench, entry, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x78, spoil: ({ bench, second }) => alter(bench, second * 4096, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x79, spoil: tables => leaf(tables, value => value & ~3n) },
  { reason: 0x7a, spoil: tables => leaf(tables, value => value | BIT62) },
  {
    reason: 0x85,
    spoil: (tables, attempt) => {
      attempt.access = WRITE;
      leaf(tables, value => value & ~2n);
    },
  },
  { reason: 0x87, spoil: tables => leaf(tables, value => 0xfee0_0000n | (value & (0xfffn | BIT62))) },
];

ordered('4.2, 4.4, 4.5: scalable mode without PASID, every pair of steps', scalableTables, 1, [
  { reason: 0x30, spoil: (_, attempt) => (attempt.ttm = 2) },
  ...LOOKUP,
  ...ENTRY,
  ...SECOND_STAGE,
]);

const WITH_PASID: readonly Step<Scalable>[] = [
  ...LOOKUP,
  { reason: 0x45, spoil: ({ bench, context }) => alter(bench, context, value => value & ~8n) },
  { reason: 0x46, spoil: (_, attempt) => (attempt.pasid = 8192) },
  ...ENTRY,
  { reason: 0x5d, spoil: (_, attempt) => (attempt.access |= PRIVILEGED) },
  ...SECOND_STAGE.filter(step => step.reason !== 0x85),
];

// A request with PASID 0 that a step may still send to another PASID.
ordered(
  '4.4 steps 9, 10, 17: scalable mode with PASID, every pair of steps',
  scalableTables,
  1,
  WITH_PASID.map(step => ({
    reason: step.reason,
    spoil(tables, attempt) {
      if (attempt.pasid === -1) attempt.pasid = 0;
      step.spoil(tables, attempt);
    },
  })),
);

/** Two faults of the leaf's accessed bits: after everything that the leaf itself can have wrong. */
ordered(
  '4.5 steps 5 and 6: a permission comes before an accessed bit that cannot be set',
  () => {
    const tables = scalableTables({ ssade: 1, pwsnp: 1 });
    return tables;
  },
  1,
  [
    {
      reason: 0x85,
      spoil: (tables, attempt) => {
        attempt.access = WRITE;
        leaf(tables, value => value & ~2n);
      },
    },
    { reason: 0x87, spoil: tables => leaf(tables, value => 0xfee0_0000n | (value & 0xfffn)) },
    { reason: 0x7d, spoil: ({ bench, second }) => bench.memory.readOnly.add(Math.floor(leafOf(bench, second) / 4096)) },
  ],
);

function firstTables(): Scalable {
  const tables = scalableBench(FULL, { pgtt: 1, pwsnp: 1, sre: 1 }, { paside: 1 });
  tables.bench.mapAt(tables.first, 4, IOVA, 0x9067n, 0x67n);
  return tables;
}

ordered('4.6.1: first stage, every pair of steps', firstTables, 1, [
  { reason: 0x80, spoil: (_, attempt) => (attempt.iova |= 1n << 47n) },
  { reason: 0x73, spoil: ({ bench, entry }) => alter(bench, entry + 16, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x70, spoil: ({ bench, first }) => alter(bench, first * 4096, value => ABSENT | (value & 0xfffn)) },
  { reason: 0x71, spoil: tables => firstLeaf(tables, value => value & ~1n) },
  { reason: 0x72, spoil: tables => firstLeaf(tables, value => value | (1n << 51n)) },
  { reason: 0x81, spoil: tables => firstLeaf(tables, value => value & ~4n) },
  {
    reason: 0x85,
    spoil: (tables, attempt) => {
      attempt.access |= WRITE;
      firstLeaf(tables, value => value & ~2n);
    },
  },
  {
    reason: 0x82,
    spoil: (tables, attempt) => {
      attempt.pasid = 0;
      attempt.access |= EXECUTE;
      firstLeaf(tables, value => value | (1n << 63n));
    },
  },
]);

/** The second-stage leaf behind the first-stage root. */
function rootLeaf({ bench, first, second }: Scalable, change: (value: bigint) => bigint): void {
  let table = second;
  for (let level = 4; level > 1; level--) {
    const index = (first >>> (9 * (level - 1))) & 511;
    table = Number((bench.get64(table * 4096 + index * 8) >> 12n) & 0xff_ffff_ffffn);
  }
  alter(bench, table * 4096 + (first & 511) * 8, change);
}

ordered(
  '4.6.2: nested, every pair of what can be wrong on the way to the root table',
  () => nestedTables({ pwsnp: 1 }),
  1,
  [
    { reason: 0x80, spoil: (_, attempt) => (attempt.iova |= 1n << 47n) },
    { reason: 0x79, spoil: tables => rootLeaf(tables, value => value & ~3n) },
    { reason: 0x7a, spoil: tables => rootLeaf(tables, value => value | BIT62) },
    { reason: 0x75, spoil: tables => rootLeaf(tables, value => value & ~1n) },
    { reason: 0x73, spoil: tables => rootLeaf(tables, value => ABSENT | (value & (0xfffn | BIT62))) },
  ],
);

/** Address of the second-stage leaf for IOVA. */
function leafOf(bench: Bench, root: number): number {
  let table = root;
  for (let level = 4; level > 1; level--) table = Number((bench.get64(table * 4096) >> 12n) & 0xff_ffff_ffffn);
  return table * 4096 + 5 * 8;
}

/** Where a table was lost by another step there is no leaf to change. */
function leaf({ bench, second }: Pick<Made, 'bench' | 'second'>, change: (value: bigint) => bigint): void {
  const address = leafOf(bench, second);
  if (address < NOWHERE * 4096) alter(bench, address, change);
}

function firstLeaf({ bench, first }: Scalable, change: (value: bigint) => bigint): void {
  leaf({ bench, second: first }, change);
}

/** Index 3 of a table; each step of vtd.md 8.3 can be made to fail. */
interface InterruptAttempt {
  address: bigint;
  data: number;
  rid: number;
}

const INTERRUPT_STEPS: readonly { reason: number; spoil(bench: InterruptBench, attempt: InterruptAttempt): void }[] = [
  { reason: 0x25, spoil: (_, attempt) => (attempt.address &= ~0x10n) },
  {
    reason: 0x20,
    spoil: (_, attempt) => {
      attempt.address |= 8n;
      attempt.data |= 0x10_0000;
    },
  },
  { reason: 0x21, spoil: (_, attempt) => (attempt.address |= 0x8000n) },
  { reason: 0x23, spoil: bench => bench.latch(NOWHERE, 7) },
  { reason: 0x22, spoil: bench => alter(bench, bench.at(3), value => value & ~1n) },
  { reason: 0x24, spoil: bench => alter(bench, bench.at(3), value => value | 0x1000n) },
  { reason: 0x26, spoil: bench => alter(bench, bench.at(3) + 8, value => value | 0x4_8000n) },
  { reason: 0x27, spoil: bench => alter(bench, bench.at(3) + 8, value => value | (1n << 40n)) },
  { reason: 0x28, spoil: bench => bench.put64(0x2000 * 4096 + 32, 4n) },
];

test('8.3: interrupt remapping, every pair of steps', t => {
  const reason = (...spoilt: readonly number[]): number => {
    const bench = new InterruptBench({ 'x-pi': true });
    // Posted, vector 0x41, descriptor at frame 0x2000.
    bench.put64(bench.at(3), 0x0200_0000_0041_8001n);
    const attempt = { address: 0xfee0_0070n, data: 0, rid: 0x113 };
    for (const step of spoilt) INTERRUPT_STEPS[step]!.spoil(bench, attempt);
    const outcome = bench.message(attempt.address, attempt.data, attempt.rid);
    t.true(bench.offered.length <= 1);
    return outcome !== undefined && 'fault' in outcome ? outcome.fault : 0;
  };
  t.is(reason(), 0);
  for (let i = 0; i < INTERRUPT_STEPS.length; i++) {
    t.is(reason(i), INTERRUPT_STEPS[i]!.reason, `step ${i}`);
    for (let j = i + 1; j < INTERRUPT_STEPS.length; j++) {
      t.is(reason(j, i), INTERRUPT_STEPS[i]!.reason, `steps ${i} and ${j}`);
    }
  }
});
