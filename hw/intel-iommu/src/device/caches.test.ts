/** Stale entries are served until exactly the right invalidation comes (vtd.md 5.11, 9, checklist 13.8). */
import { Access } from '@remora/core';
import test from 'ava';
import {
  ContextCacheDescriptor,
  IotlbDescriptor,
  PasidCacheDescriptor,
  PasidEntry,
  PasidIotlbDescriptor,
  Pgtt,
  ScalableContextEntry,
} from '../spec/index.js';
import { baseEntry, DID, FULL, legacyBench, RID, scalableBench, type Bench, type Values } from './bench.test.helper.js';

const RW = 3n;
const PTE = 0x67n;
const IOVA = 0x5000n;
const { READ } = Access;

const CC = ContextCacheDescriptor;
const TLB = IotlbDescriptor;
const PC = PasidCacheDescriptor;
const PTLB = PasidIotlbDescriptor;
type Command = readonly [name: string, layout: typeof CC | typeof TLB | typeof PC | typeof PTLB, values: Values];

/** Whether a change that was made behind the unit's back shows after a command. */
function notices(make: () => { bench: Bench; stale: () => boolean }, [, layout, values]: Command): boolean {
  const { bench, stale } = make();
  if (!stale()) throw new Error('nothing was cached');
  bench.enableQueue(true);
  if (!bench.submit(layout as never, values)) throw new Error('the descriptor was refused');
  return !stale();
}

const COMMANDS: readonly Command[] = [
  ['CC global', CC, { type: 1, g: 1 }],
  ['CC domain', CC, { type: 1, g: 2, did: DID }],
  ['CC other domain', CC, { type: 1, g: 2, did: DID + 1 }],
  ['CC device', CC, { type: 1, g: 3, did: DID, sid: RID }],
  ['CC other device', CC, { type: 1, g: 3, did: DID, sid: RID ^ 8 }],
  ['IOTLB global', TLB, { type: 2, g: 1 }],
  ['IOTLB domain', TLB, { type: 2, g: 2, did: DID }],
  ['IOTLB other domain', TLB, { type: 2, g: 2, did: DID + 1 }],
  ['IOTLB page', TLB, { type: 2, g: 3, did: DID, addr: 5 }],
  ['IOTLB other page', TLB, { type: 2, g: 3, did: DID, addr: 6 }],
  ['IOTLB 8 pages', TLB, { type: 2, g: 3, did: DID, addr: 2, am: 3 }],
  ['IOTLB page of other domain', TLB, { type: 2, g: 3, did: DID + 1, addr: 5 }],
  ['PC global', PC, { type: 7, g: 3 }],
  ['PC domain', PC, { type: 7, g: 0, did: DID }],
  ['PC other domain', PC, { type: 7, g: 0, did: DID + 1 }],
  ['PC PASID', PC, { type: 7, g: 1, did: DID, pasid: 0 }],
  ['PC other PASID', PC, { type: 7, g: 1, did: DID, pasid: 1 }],
  ['PC PASID of other domain', PC, { type: 7, g: 1, did: DID + 1, pasid: 0 }],
  ['PIOTLB PASID', PTLB, { type: 6, g: 2, did: DID, pasid: 0 }],
  ['PIOTLB other PASID', PTLB, { type: 6, g: 2, did: DID, pasid: 1 }],
  ['PIOTLB page', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 5 }],
  ['PIOTLB other page', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 6 }],
  ['PIOTLB 8 pages', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 7, am: 3 }],
  ['PIOTLB everything by mask', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: 0, am: 52 }],
  ['PIOTLB page of other PASID', PTLB, { type: 6, g: 3, did: DID, pasid: 1, addr: 5 }],
];

/** What each kind of cached thing must notice; all else must leave it alone, so that a missing flush shows. */
function matrix(title: string, make: () => { bench: Bench; stale: () => boolean }, noticed: readonly string[]): void {
  test(title, t => {
    for (const command of COMMANDS) t.is(notices(make, command), noticed.includes(command[0]), command[0]);
  });
}

/** A leaf that changed after it was cached. */
function changedLeaf(entry: Values): { bench: Bench; stale: () => boolean } {
  const { bench, second, first } = scalableBench(FULL, entry);
  const nested = entry['pgtt'] === Pgtt.NESTED;
  if (nested) bench.mapAt(second, 4, 0n, 0x83n, RW, 3);
  const firstStage = nested || entry['pgtt'] === Pgtt.FIRST_STAGE;
  const root = firstStage ? first : second;
  const bits = firstStage ? PTE : RW;
  bench.mapAt(root, 4, IOVA, 0x9000n | bits, bits);
  bench.request(IOVA);
  bench.mapAt(root, 4, IOVA, 0xa000n | bits, bits);
  return { bench, stale: () => toOf(bench) === 0x9000 };
}

const toOf = (bench: Bench): number => {
  const outcome = bench.request(IOVA);
  return 'to' in outcome ? outcome.to : -1;
};

matrix('a second-stage translation', () => changedLeaf({ pgtt: Pgtt.SECOND_STAGE }), [
  ...['IOTLB global', 'IOTLB domain', 'IOTLB page', 'IOTLB 8 pages'],
]);

const FIRST_STAGE_FLUSHES = [
  ...['IOTLB global', 'IOTLB domain', 'IOTLB page', 'IOTLB other page', 'IOTLB 8 pages'],
  ...['PIOTLB PASID', 'PIOTLB page', 'PIOTLB 8 pages', 'PIOTLB everything by mask'],
];
matrix('a first-stage translation', () => changedLeaf({ pgtt: Pgtt.FIRST_STAGE }), FIRST_STAGE_FLUSHES);
matrix('a nested translation', () => changedLeaf({ pgtt: Pgtt.NESTED }), FIRST_STAGE_FLUSHES);

matrix(
  'a PASID entry',
  () => {
    const { bench, entry, second, first } = scalableBench(FULL, { pgtt: Pgtt.PASS_THROUGH });
    bench.request(IOVA);
    bench.put(entry, PasidEntry.encode({ ...baseEntry(second, first), did: DID + 5 }));
    return { bench, stale: () => toOf(bench) === Number(IOVA) };
  },
  ['PC global', 'PC domain', 'PC PASID'],
);

matrix(
  'a scalable-mode context entry: domain granularity means all',
  () => {
    const { bench, context } = scalableBench(FULL, { pgtt: Pgtt.PASS_THROUGH });
    bench.request(IOVA);
    bench.put(context, ScalableContextEntry.encode({}));
    return { bench, stale: () => toOf(bench) === Number(IOVA) };
  },
  ['CC global', 'CC domain', 'CC other domain', 'CC device'],
);

test('a PASID entry survives the loss of its context entry from the cache', t => {
  const { bench, entry } = scalableBench(FULL, { pgtt: Pgtt.PASS_THROUGH });
  bench.request(IOVA);
  bench.put64(entry, 0n);
  bench.enableQueue(true);
  bench.submit(CC, { type: 1, g: 1 });
  t.is(bench.fault(IOVA), 0);
  bench.submit(PC, { type: 7, g: 3 });
  t.is(bench.fault(IOVA), 0x59);
});

test('legacy: context entries by domain, and by device with each function mask', t => {
  const entries = (): ReturnType<typeof legacyBench> & { stale: () => number[] } => {
    const tables = legacyBench({}, { tt: 2 });
    const { bench, context } = tables;
    const functions = [0, 1, 2, 3, 4, 5, 6, 7].map(fn => (RID & ~7) | fn);
    for (const rid of functions) {
      const at = context + (rid - RID) * 16;
      bench.put64(at, bench.get64(context));
      bench.put64(at + 8, bench.get64(context + 8));
    }
    for (const rid of functions) bench.request(IOVA, READ, -1, rid);
    for (const rid of functions) bench.put64(context + (rid - RID) * 16, 0n);
    bench.enableQueue(false);
    const stale = (): number[] => functions.filter(rid => bench.fault(IOVA, READ, -1, rid) === 0).map(rid => rid & 7);
    return { ...tables, stale };
  };
  const after = (values: Values): number[] => {
    const { bench, stale } = entries();
    t.is(stale().length, 8);
    t.true(bench.submit(CC, { type: 1, ...values }));
    return stale();
  };
  t.deepEqual(after({ g: 1 }), []);
  t.deepEqual(after({ g: 2, did: DID }), []);
  t.is(after({ g: 2, did: DID + 1 }).length, 8);
  // RID is function 3: FM ignores bit 2, bits 2:1, bits 2:0.
  t.deepEqual(after({ g: 3, did: DID, sid: RID, fm: 0 }), [0, 1, 2, 4, 5, 6, 7]);
  t.deepEqual(after({ g: 3, did: DID, sid: RID, fm: 1 }), [0, 1, 2, 4, 5, 6]);
  t.deepEqual(after({ g: 3, did: DID, sid: RID, fm: 2 }), [0, 2, 4, 6]);
  t.deepEqual(after({ g: 3, did: DID, sid: RID, fm: 3 }), []);
  t.is(after({ g: 3, did: DID + 1, sid: RID, fm: 3 }).length, 8);
  t.is(after({ g: 3, did: DID, sid: RID ^ 0x100, fm: 3 }).length, 8);
});

test('a cached large page goes with any page in it; pages go with a large range', t => {
  const { bench, second } = legacyBench();
  const leaf = bench.mapAt(second, 4, 0x4000_0000n, 0x8000_0083n, RW, 2);
  bench.request(0x4000_0000);
  bench.request(0x4010_0000);
  bench.put64(leaf, 0n);
  bench.enableQueue(false);
  t.is(bench.fault(0x4000_0000), 0);
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 0x401ff });
  t.is(bench.fault(0x4000_0000), 6);
  bench.mapAt(second, 4, 0x6000_0000n, 0x9000n | RW, RW);
  bench.request(0x6000_0000);
  bench.mapAt(second, 4, 0x6000_0000n, 0n, RW);
  t.is(bench.fault(0x6000_0000), 0);
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: 0x7ffff, am: 18 });
  t.is(bench.fault(0x6000_0000), 6);
});

test('TE off and on keeps the caches', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
  bench.request(IOVA);
  bench.mapAt(second, 4, IOVA, 0n, RW);
  bench.write32(0x18, 0);
  bench.command(0x8000_0000);
  t.is(bench.fault(IOVA), 0);
  bench.unit.reset();
  t.is(bench.unit.translationEnabled, false);
});
