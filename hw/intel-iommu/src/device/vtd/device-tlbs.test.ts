/**
 * vtd.md 4.3, 4.4, 4.8, 4.9 and 7.1 for requests with ATS and page requests: each reason with FPD clear and in the context entry, the kind
 * of request in its record, and the order of checks. In raw words, beside what ats.test.ts and page-requests.test.ts say of each feature.
 */
import { Access, NO_PASID } from '@remora/core';
import { AtsCompletion, AtsStatus } from '@remora/iommu';
import test from 'ava';
import { ATS } from '../ats-bench.test.helper.js';
import {
  type Bench,
  legacyBench,
  NOWHERE,
  RID,
  scalableBench,
  type Tables,
  type Values,
} from '../bench.test.helper.js';

const { READ, READ_WRITE } = Access;
const IOVA = 0x5000n;
const ABSENT = BigInt(NOWHERE * 4096);

/** The three kinds of request, and what the record of each shows: AT in 61:60, T1 in 62, T2 in 28 of the upper quadword. */
const KINDS = ['translation', 'translated', 'page'] as const;
type Kind = (typeof KINDS)[number];
const SHOWN: Readonly<Record<Kind, bigint>> = {
  translation: (1n << 62n) | (1n << 60n),
  translated: (1n << 62n) | (2n << 60n),
  page: 1n << 28n,
};

interface Attempt {
  rta: number;
  ttm: number;
  iova: bigint;
  pasid: number;
}

/** Whether the request is served. */
function served(bench: Bench, kind: Kind, { iova, pasid }: Attempt): boolean {
  const [hi, lo] = [Number(iova >> 32n), Number(iova & 0xffff_ffffn)];
  if (kind === 'page') {
    return bench.unit.pageRequest({ requesterId: RID, pasid, hi, lo, access: READ_WRITE, group: 3, last: true });
  }
  const status =
    kind === 'translation'
      ? bench.unit.translationRequest(RID, pasid, hi, lo, READ, new AtsCompletion())
      : bench.unit.translatedRequest(RID, pasid, hi, lo, READ);
  return status === AtsStatus.OK;
}

/** Makes the request after an SRTP. Returns the reason that was recorded or suppressed; 0 if it is served. */
function reasonOf({ bench }: Pick<Tables, 'bench'>, kind: Kind, attempt: Attempt): number {
  bench.setRoot(attempt.rta, attempt.ttm);
  if (served(bench, kind, attempt)) return 0;
  return [...bench.offered, ...bench.suppressed].at(-1) ?? -1;
}

type Made = Tables & Partial<ReturnType<typeof scalableBench>>;

const attemptOf = ({ rootEntry }: Made, ttm: number): Attempt => ({
  rta: Math.floor(rootEntry / 4096),
  ttm,
  iova: IOVA,
  pasid: NO_PASID,
});

function scalableTables(context: Values = {}): Made {
  const tables = scalableBench({ ...ATS, 'x-rps': true }, {}, { dte: 1, paside: 1, pre: 1, ...context });
  const { bench, second } = tables;
  bench.mapAt(second, 4, IOVA, 0x9003n, 3n);
  bench.write64(0xd0, BigInt(bench.page() * 4096));
  return tables;
}

function legacyTables(context: Values = {}): Made {
  const tables = legacyBench({ 'device-iotlb': true }, { tt: 1, ...context });
  tables.bench.mapAt(tables.second, 4, IOVA, 0x9003n, 3n);
  return tables;
}

const alter = (bench: Bench, address: number, change: (value: bigint) => bigint): void =>
  bench.put64(address, change(bench.get64(address)));

interface Step {
  readonly reason: number;
  readonly kinds: readonly Kind[];
  spoil(tables: Made, attempt: Attempt): void;
}

const ALL = KINDS;
const WITH_ATS = ['translation', 'translated'] as const;

const SCALABLE: readonly Step[] = [
  { reason: 0x30, kinds: ALL, spoil: (_, attempt) => (attempt.ttm = 2) },
  { reason: 0x38, kinds: ALL, spoil: (_, attempt) => (attempt.rta = NOWHERE) },
  { reason: 0x39, kinds: ALL, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => value & ~1n) },
  { reason: 0x3a, kinds: ALL, spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => value | 2n) },
  {
    reason: 0x40,
    kinds: ALL,
    spoil: ({ bench, rootEntry }) => alter(bench, rootEntry, value => ABSENT | (value & 0xfffn)),
  },
  { reason: 0x41, kinds: ALL, spoil: ({ bench, context }) => alter(bench, context, value => value & ~1n) },
  { reason: 0x42, kinds: ALL, spoil: ({ bench, context }) => alter(bench, context + 16, value => value | 1n) },
  { reason: 0x43, kinds: ALL, spoil: ({ bench, context }) => alter(bench, context + 8, value => value | 0xf_ffffn) },
  { reason: 0x44, kinds: WITH_ATS, spoil: ({ bench, context }) => alter(bench, context, value => value & ~4n) },
  {
    reason: 0x45,
    kinds: ALL,
    spoil({ bench, context }, attempt) {
      if (attempt.pasid === NO_PASID) attempt.pasid = 5;
      alter(bench, context, value => value & ~8n);
    },
  },
  { reason: 0x46, kinds: ['translation', 'page'], spoil: (_, attempt) => (attempt.pasid = 8192) },
  { reason: 0x47, kinds: ['page'], spoil: ({ bench, context }) => alter(bench, context, value => value & ~16n) },
  // Page requests end with the context entry, translated ones too.
  {
    reason: 0x50,
    kinds: ['translation'],
    spoil: ({ bench, context }) => alter(bench, context, value => ABSENT | (value & 0xfffn)),
  },
];

const LEGACY: readonly Step[] = [
  { reason: 0x31, kinds: WITH_ATS, spoil: (_, attempt) => (attempt.pasid = 5) },
  { reason: 0x08, kinds: WITH_ATS, spoil: (_, attempt) => (attempt.rta = NOWHERE) },
  { reason: 0x02, kinds: WITH_ATS, spoil: ({ bench, context }) => alter(bench, context, value => value & ~1n) },
  { reason: 0x0b, kinds: WITH_ATS, spoil: ({ bench, context }) => alter(bench, context + 8, value => value | 0x80n) },
  { reason: 0x03, kinds: WITH_ATS, spoil: ({ bench, context }) => alter(bench, context + 8, value => value | 7n) },
  { reason: 0x0d, kinds: WITH_ATS, spoil: ({ bench, context }) => alter(bench, context, value => value & ~4n) },
  { reason: 0x04, kinds: WITH_ATS, spoil: (_, attempt) => (attempt.iova |= 1n << 48n) },
];

for (const [mode, make, ttm, steps] of [
  ['4.3: legacy mode', legacyTables, 0, LEGACY],
  ['4.4: scalable mode', scalableTables, 1, SCALABLE],
] as const) {
  for (const kind of KINDS) {
    const mine = steps.filter(step => step.kinds.includes(kind));
    if (mine.length === 0) continue;

    test(`${mode}, ${kind} requests: each step, and every pair of steps`, t => {
      const reason = (...spoilt: readonly Step[]): number => {
        const tables = make();
        const attempt = attemptOf(tables, ttm);
        for (const step of spoilt) step.spoil(tables, attempt);
        return reasonOf(tables, kind, attempt);
      };
      t.is(reason(), 0, 'nothing is wrong');
      for (const [i, earlier] of mine.entries()) {
        t.is(reason(earlier), earlier.reason, `step ${i}`);
        for (const later of mine.slice(i + 1)) {
          t.is(
            reason(later, earlier),
            earlier.reason,
            `0x${earlier.reason.toString(16)} and 0x${later.reason.toString(16)}`,
          );
        }
      }
    });
  }
}

test('4.2 step 3: a page request in legacy mode: 0x32, whatever the tables say, with or without PASID', t => {
  for (const pasid of [NO_PASID, 5]) {
    const tables = scalableTables({ fpd: 1 });
    t.is(reasonOf(tables, 'page', { ...attemptOf(tables, 0), pasid }), 0x32);
    t.deepEqual([tables.bench.offered, tables.bench.suppressed], [[0x32], []], 'never suppressed');
  }
});

/** How to get each reason that only these requests have. */
const REASONS: readonly { reason: number; kind: Kind; make(context: Values): Made; ttm: number }[] = [
  { reason: 0x0d, kind: 'translation', make: context => legacyTables({ tt: 0, ...context }), ttm: 0 },
  { reason: 0x0d, kind: 'translated', make: context => legacyTables({ tt: 2, ...context }), ttm: 0 },
  { reason: 0x44, kind: 'translation', make: context => scalableTables({ dte: 0, ...context }), ttm: 1 },
  { reason: 0x44, kind: 'translated', make: context => scalableTables({ dte: 0, ...context }), ttm: 1 },
  { reason: 0x47, kind: 'page', make: context => scalableTables({ pre: 0, ...context }), ttm: 1 },
];

for (const { reason, kind, make, ttm } of REASONS) {
  test(`4.8: 0x${reason.toString(16).padStart(2, '0')}, ${kind} request: recorded with its kind; suppressed by the context entry's FPD`, t => {
    for (const fpd of [0, 1]) {
      const tables = make({ fpd });
      const { bench } = tables;
      t.is(reasonOf(tables, kind, attemptOf(tables, ttm)), reason);
      t.deepEqual([bench.offered, bench.suppressed], fpd === 0 ? [[reason], []] : [[], [reason]]);
      const record = fpd === 0 ? (1n << 63n) | SHOWN[kind] | (BigInt(reason) << 32n) | BigInt(RID) : 0n;
      t.is(bench.read64(0x228), record);
      t.is(bench.read64(0x220), fpd === 0 ? IOVA : 0n);
    }
  });
}

test('1.14: PASID, EXE and PRIV of a page request', t => {
  const tables = scalableTables({ pre: 0 });
  const { bench } = tables;
  bench.setRoot(attemptOf(tables, 1).rta, 1);
  const access = READ | Access.EXECUTE | Access.PRIVILEGED;
  bench.unit.pageRequest({ requesterId: RID, pasid: 5, hi: 0, lo: 0x5000, access, group: 0, last: true });
  t.is(bench.read64(0x228), 0x8000_0547_f000_0113n);
});

test('4.9, 4.7: the interrupt range: a translation request is granted nothing, a translated one is blocked with 0x0E or 0x87', t => {
  for (const [make, ttm, reason] of [
    [legacyTables, 0, 0x0e],
    [scalableTables, 1, 0x87],
  ] as const) {
    for (const address of [0xfee0_0000n, 0xfeef_f000n]) {
      const tables = make();
      const attempt = { ...attemptOf(tables, ttm), iova: address };
      t.is(reasonOf(tables, 'translation', attempt), 0);
      t.deepEqual(tables.bench.offered, [], 'not a fault');
      t.is(reasonOf(tables, 'translated', attempt), reason);
    }
    for (const address of [0xfedf_f000n, 0xfef0_0000n, 0x1_fee0_0000n]) {
      const tables = make();
      t.is(reasonOf(tables, 'translated', { ...attemptOf(tables, ttm), iova: address }), 0);
    }
  }
});

test('4.9: a translated request reads no page table, and no PASID table', t => {
  const { bench, rootEntry } = scalableTables({ pasiddirptr: NOWHERE });
  bench.setRoot(Math.floor(rootEntry / 4096), 1);
  bench.memory.loads = 0;
  t.is(bench.unit.translatedRequest(RID, 5, 0, 0x7000, READ), AtsStatus.OK);
  t.is(bench.memory.loads, 2, 'root entry, context entry');
});
