/**
 * Caching mode (CAP.CM, vtd.md 2.1, 9 rules 2 and 3): what is not present or not in order stays so until an invalidation covers it. Each
 * case is set right behind the unit's back; then exactly the invalidations that a driver may choose from make it count.
 */
import { Access, Inspector, StateReader, StateWriter } from '@remora/core';
import test from 'ava';
import type { VtdConfig } from '../config/index.js';
import {
  ContextCacheDescriptor,
  ContextEntry,
  GlobalCommand,
  IotlbDescriptor,
  PasidCacheDescriptor,
  PasidDirectoryEntry,
  PasidEntry,
  PasidIotlbDescriptor,
  Pgtt,
  RootEntry,
  ScalableContextEntry,
  ScalableRootEntry,
} from '../spec/index.js';
import {
  baseEntry,
  DID,
  FULL,
  legacyBench,
  NOWHERE,
  RID,
  scalableBench,
  type Bench,
  type Values,
} from './bench.test.helper.js';

const { READ, WRITE } = Access;
const RW = 3n;
const PTE = 0x67n;
const IOVA = 0x80_0000_5000n;
const PAGE = IOVA >> 12n;
const RESERVED_BIT = 1n << 51n;

const CC = ContextCacheDescriptor;
const TLB = IotlbDescriptor;
const PC = PasidCacheDescriptor;
const PTLB = PasidIotlbDescriptor;
type Command = readonly [name: string, layout: typeof CC | typeof TLB | typeof PC | typeof PTLB, values: Values];

const COMMANDS: readonly Command[] = [
  ['CC global', CC, { type: 1, g: 1 }],
  ['CC domain 0', CC, { type: 1, g: 2, did: 0 }],
  ['CC domain', CC, { type: 1, g: 2, did: DID }],
  ['CC other domain', CC, { type: 1, g: 2, did: DID + 1 }],
  ['CC device, domain 0', CC, { type: 1, g: 3, did: 0, sid: RID }],
  ['CC device', CC, { type: 1, g: 3, did: DID, sid: RID }],
  ['CC device, other domain', CC, { type: 1, g: 3, did: DID + 1, sid: RID }],
  ['CC other device', CC, { type: 1, g: 3, did: 0, sid: RID ^ 4 }],
  ['CC devices by mask', CC, { type: 1, g: 3, did: 0, sid: RID ^ 4, fm: 1 }],
  ['CC same function, other bus', CC, { type: 1, g: 3, did: 0, sid: RID ^ 0x100 }],
  ['IOTLB global', TLB, { type: 2, g: 1 }],
  ['IOTLB domain', TLB, { type: 2, g: 2, did: DID }],
  ['IOTLB other domain', TLB, { type: 2, g: 2, did: DID + 1 }],
  ['IOTLB page', TLB, { type: 2, g: 3, did: DID, addr: PAGE }],
  ['IOTLB page, IH', TLB, { type: 2, g: 3, did: DID, addr: PAGE, ih: 1 }],
  ['IOTLB next page', TLB, { type: 2, g: 3, did: DID, addr: PAGE ^ 1n }],
  ['IOTLB next 2 MiB', TLB, { type: 2, g: 3, did: DID, addr: PAGE ^ 0x200n }],
  ['IOTLB next GiB', TLB, { type: 2, g: 3, did: DID, addr: PAGE ^ 0x4_0000n }],
  ['IOTLB next 512 GiB', TLB, { type: 2, g: 3, did: DID, addr: PAGE ^ 0x800_0000n }],
  ['IOTLB page of other domain', TLB, { type: 2, g: 3, did: DID + 1, addr: PAGE }],
  ['PC global', PC, { type: 7, g: 3 }],
  ['PC domain', PC, { type: 7, g: 0, did: DID }],
  ['PC other domain', PC, { type: 7, g: 0, did: DID + 1 }],
  ['PC PASID', PC, { type: 7, g: 1, did: DID, pasid: 0 }],
  ['PC PASID of other domain', PC, { type: 7, g: 1, did: DID + 1, pasid: 0 }],
  ['PC other PASID', PC, { type: 7, g: 1, did: DID, pasid: 1 }],
  ['PIOTLB PASID', PTLB, { type: 6, g: 2, did: DID, pasid: 0 }],
  ['PIOTLB page', PTLB, { type: 6, g: 3, did: DID, pasid: 0, addr: PAGE }],
];

/** A unit whose tables are wrong somewhere, and what sets them right. */
interface Case {
  readonly bench: Bench;
  readonly reason: number;
  repair(): void;
}

type Make = (options: Partial<VtdConfig>) => Case;

/** With caching mode, exactly the commands of `covering` make a repair count; without, each repair counts at once. */
function matrix(title: string, make: Make, covering: readonly string[]): void {
  test(title, t => {
    const without = make({ 'caching-mode': false });
    t.is(without.bench.fault(IOVA), without.reason);
    without.repair();
    t.is(without.bench.fault(IOVA), 0, 'CM = 0');

    for (const [name, layout, values] of COMMANDS) {
      const { bench, reason, repair } = make({ 'caching-mode': true });
      if (!bench.unit.scalable && Number(values['type']) > 5) continue;
      t.is(bench.fault(IOVA), reason);
      repair();
      t.is(bench.fault(IOVA), reason, 'nobody was told');
      t.deepEqual(bench.offered, [reason, reason], 'a fault like another');
      bench.enableQueue(bench.unit.scalable);
      t.true(bench.submit(layout as never, values), name);
      t.is(bench.fault(IOVA), covering.includes(name) ? 0 : reason, name);
    }

    const { bench, repair } = make({ 'caching-mode': true });
    bench.request(IOVA);
    repair();
    bench.command(GlobalCommand.SRTP);
    t.is(bench.fault(IOVA), 0, 'SRTP');
  });
}

/** A second-stage entry of `level` that is `wrong`; all others on the way are in order. */
function secondStage(level: number, wrong: bigint, pgtt?: number): Make {
  return options => {
    const { bench, second } =
      pgtt === undefined ? legacyBench(options) : scalableBench({ ...FULL, ...options }, { pgtt });
    bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
    const entry = entryAt(bench, second, level);
    const right = bench.get64(entry);
    bench.put64(entry, wrong === 0n ? 0n : right | wrong);
    const absent = pgtt === undefined ? 0x06 : 0x79;
    const reserved = pgtt === undefined ? 0x0c : 0x7a;
    return { bench, reason: wrong === 0n ? absent : reserved, repair: () => bench.put64(entry, right) };
  };
}

/** Address of the entry of `level` on the way to IOVA. */
function entryAt(bench: Bench, root: number, level: number): number {
  for (let at = 4, table = root * 4096; ; at--) {
    const entry = table + Number((IOVA >> BigInt(3 + 9 * at)) & 511n) * 8;
    if (at === level) return entry;
    table = Number(bench.get64(entry) & 0xf_ffff_ffff_f000n);
  }
}

for (const level of [1, 2, 3, 4]) {
  const neighbours = ['IOTLB next page', 'IOTLB next 2 MiB', 'IOTLB next GiB', 'IOTLB next 512 GiB'].slice(
    0,
    level - 1,
  );
  // Where a leaf may have come, a driver may say that leaves are all that changed.
  const hinted = level <= 3 ? ['IOTLB page, IH'] : [];
  const covering = ['IOTLB global', 'IOTLB domain', 'IOTLB page', ...hinted, ...neighbours];
  matrix(`legacy: a second-stage entry of level ${level} that is not present`, secondStage(level, 0n), covering);
  matrix(`legacy: one of level ${level} with a reserved bit`, secondStage(level, RESERVED_BIT), covering);
  matrix(`scalable: one of level ${level} that is not present`, secondStage(level, 0n, Pgtt.SECOND_STAGE), covering);
  matrix(
    `scalable: one of level ${level} with a reserved bit`,
    secondStage(level, RESERVED_BIT, Pgtt.SECOND_STAGE),
    covering,
  );
}

test('a dead end answers reads and writes with the reason of each, and only of its own domain', t => {
  const { bench, second, context } = legacyBench({ 'caching-mode': true });
  t.is(bench.fault(IOVA, READ), 0x06);
  bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
  t.is(bench.fault(IOVA, WRITE), 0x05);
  t.is(bench.fault(IOVA, 0), 0x06, 'a zero-length read');
  const other = context + 16;
  bench.put(other, ContextEntry.encode({ p: 1, ssptptr: second, aw: 2, did: DID + 1 }));
  t.is(bench.fault(IOVA, READ, -1, RID + 1), 0, 'another domain by the same tables');
});

test('under a first stage, what is missing in the second is remembered, and what is missing in the first is not', t => {
  const { bench, second, first } = scalableBench({ ...FULL, 'caching-mode': true }, { pgtt: Pgtt.NESTED });
  bench.mapAt(second, 4, 0n, 0x83n, RW, 3);
  t.is(bench.fault(IOVA), 0x71);
  bench.mapAt(first, 4, IOVA, IOVA | PTE, PTE);
  t.is(bench.fault(IOVA), 0x79, 'the first stage is there, and needs no flush (vtd.md 11.5)');
  bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
  t.is(bench.fault(IOVA), 0x79);
  bench.enableQueue(true);
  bench.submit(PTLB, { type: 6, g: 2, did: DID, pasid: 0 });
  t.is(bench.fault(IOVA), 0x79, 'a second-stage entry belongs to the domain');
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: PAGE, ih: 1 });
  t.is(bench.fault(IOVA), 0x79, 'the entry that was missing is of level 4: no leaf');
  bench.submit(TLB, { type: 2, g: 3, did: DID, addr: PAGE });
  t.is(bench.fault(IOVA), 0);
});

test('first-stage entries are never remembered', t => {
  const { bench, first } = scalableBench({ ...FULL, 'caching-mode': true }, { pgtt: Pgtt.FIRST_STAGE });
  t.is(bench.fault(IOVA), 0x71);
  const leaf = bench.mapAt(first, 4, IOVA, 0x9000n | PTE | RESERVED_BIT, PTE);
  t.is(bench.fault(IOVA), 0x72);
  bench.put64(leaf, 0x9000n | PTE);
  t.is(bench.fault(IOVA), 0);
});

/** Legacy: root or context entry, whichever `wrong` spoils. */
function legacy(reason: number, wrong: (bench: Bench, root: number, context: number) => void): Make {
  return options => {
    const { bench, rootEntry, context, second } = legacyBench(options);
    bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
    const right = [rootEntry, context].map(at => [at, bench.get64(at), at + 8, bench.get64(at + 8)] as const);
    wrong(bench, rootEntry, context);
    const repair = (): void => {
      for (const [at, low, above, high] of right) {
        bench.put64(at, low);
        bench.put64(above, high);
      }
    };
    return { bench, reason, repair };
  };
}

const DOMAIN_0 = ['CC global', 'CC domain 0', 'CC device, domain 0', 'CC devices by mask'];
matrix(
  'legacy: a root entry that is not present belongs to domain 0',
  legacy(0x01, (bench, root) => bench.put64(root, 0n)),
  DOMAIN_0,
);
matrix(
  'legacy: a root entry with a reserved bit',
  legacy(0x0a, (bench, root) => bench.flip(root, 5)),
  DOMAIN_0,
);
matrix(
  'legacy: a context entry that is not present',
  legacy(0x02, (bench, _root, context) => bench.put(context, ContextEntry.encode({ did: DID }))),
  DOMAIN_0,
);
matrix(
  'legacy: a context entry with a reserved bit belongs to its own domain, too',
  legacy(0x0b, (bench, _root, context) => bench.flip(context, 5)),
  [...DOMAIN_0, 'CC domain', 'CC device'],
);
matrix(
  'legacy: a context entry of a width that is not offered',
  legacy(0x03, (bench, _root, context) => bench.put(context, ContextEntry.encode({ p: 1, aw: 3, did: DID }))),
  [...DOMAIN_0, 'CC domain', 'CC device'],
);

type Scalable = ReturnType<typeof scalableBench>;

/** Scalable mode: pass-through that is spoilt and made good. */
function scalable(reason: number, wrong: (tables: Scalable) => void, options: Partial<VtdConfig> = {}): Make {
  return more => {
    const tables = scalableBench({ ...FULL, ...options, ...more }, { pgtt: Pgtt.SECOND_STAGE });
    const { bench, second, rootEntry, context, directory, entry } = tables;
    bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
    const saved = [rootEntry, context, context + 8, directory * 4096, entry, entry + 8].map(
      at => [at, bench.get64(at)] as const,
    );
    wrong(tables);
    const repair = (): void => {
      for (const [at, value] of saved) bench.put64(at, value);
    };
    return { bench, reason, repair };
  };
}

const ANY_DOMAIN = [
  ...['CC global', 'CC domain 0', 'CC domain', 'CC other domain'],
  ...['CC device, domain 0', 'CC device', 'CC device, other domain', 'CC devices by mask'],
];
matrix(
  'scalable: a root entry that is not present',
  scalable(0x39, ({ bench, rootEntry }) => bench.put(rootEntry, ScalableRootEntry.encode({}).subarray(0, 2))),
  ANY_DOMAIN,
);
matrix(
  'scalable: a root entry with a reserved bit',
  scalable(0x3a, ({ bench, rootEntry }) => bench.flip(rootEntry, 5)),
  ANY_DOMAIN,
);
matrix(
  'scalable: a context entry that is not present',
  scalable(0x41, ({ bench, context }) => bench.put64(context, 0n)),
  ANY_DOMAIN,
);
matrix(
  'scalable: a context entry with a reserved bit',
  scalable(0x42, ({ bench, context }) => bench.flip(context, 6)),
  ANY_DOMAIN,
);
matrix(
  'scalable: a context entry whose RID_PASID is beyond its directory',
  scalable(
    0x43,
    ({ bench, context }) => bench.put(context, ScalableContextEntry.encode({ p: 1, ridPasid: 0x2000 }).subarray(0, 4)),
    { 'x-rps': true },
  ),
  ANY_DOMAIN,
);

const PASID_0 = ['PC global', 'PC domain', 'PC other domain', 'PC PASID', 'PC PASID of other domain'];
matrix(
  'a PASID directory entry that is not present: whatever the domain, since it names none',
  scalable(0x51, ({ bench, directory }) => bench.put64(directory * 4096, 0n)),
  PASID_0,
);
matrix(
  'a PASID directory entry with a reserved bit',
  scalable(0x52, ({ bench, directory }) => bench.flip(directory * 4096, 5)),
  PASID_0,
);
matrix(
  'a PASID entry that is not present',
  scalable(0x59, ({ bench, entry }) => bench.put64(entry, 0n)),
  PASID_0,
);
matrix(
  'a PASID entry with a reserved bit',
  scalable(0x5a, ({ bench, entry }) => bench.flip(entry, 5)),
  PASID_0,
);
matrix(
  'a PASID entry of a width that is not offered',
  scalable(0x5b, ({ bench, entry, second, first }) =>
    bench.put(entry, PasidEntry.encode({ ...baseEntry(second, first), aw: 3 })),
  ),
  PASID_0,
);

test('what cannot be read is no entry: as soon as it can be, it counts', t => {
  const options = { 'caching-mode': true } as const;
  const legacyTables = legacyBench(options, { tt: 2 });
  const { bench, rootEntry } = legacyTables;
  const right = bench.get64(rootEntry);
  bench.put(rootEntry, RootEntry.encode({ p: 1, ctp: NOWHERE }));
  t.is(bench.fault(IOVA), 0x09);
  bench.put64(rootEntry, right);
  t.is(bench.fault(IOVA), 0);
  const tables = scalableBench({ ...FULL, ...options }, { pgtt: Pgtt.PASS_THROUGH });
  const { directory } = tables;
  const table = tables.bench.get64(directory * 4096);
  tables.bench.put(directory * 4096, PasidDirectoryEntry.encode({ p: 1, smptblptr: NOWHERE }));
  t.is(tables.bench.fault(IOVA), 0x58);
  tables.bench.put64(directory * 4096, table);
  t.is(tables.bench.fault(IOVA), 0);
});

test('a page that is present and does not permit a request is not remembered as missing', t => {
  const { bench, second } = legacyBench({ 'caching-mode': true });
  const leaf = bench.mapAt(second, 4, IOVA, 0x9001n, RW);
  t.is(bench.fault(IOVA, WRITE), 0x05);
  bench.put64(leaf, 0x9003n);
  t.is(bench.fault(IOVA, WRITE), 0);
});

test('FPD counts as it was when the entry was refused', t => {
  const { bench, context, second } = legacyBench({ 'caching-mode': true });
  bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
  const right = bench.get64(context);
  bench.put64(context, 2n);
  t.is(bench.fault(IOVA), 0x02);
  bench.put64(context, right & ~1n);
  t.is(bench.fault(IOVA), 0x02);
  t.deepEqual([bench.suppressed, bench.offered], [[0x02, 0x02], []]);
  bench.enableQueue(false);
  bench.submit(CC, { type: 1, g: 3, did: 0, sid: RID });
  t.is(bench.fault(IOVA), 0x02);
  t.deepEqual(bench.offered, [0x02]);

  const tables = scalableBench({ ...FULL, 'caching-mode': true }, { p: 0, fpd: 1 });
  t.is(tables.bench.fault(IOVA), 0x59);
  tables.bench.put64(tables.entry, 0n);
  t.is(tables.bench.fault(IOVA), 0x59);
  t.deepEqual([tables.bench.suppressed, tables.bench.offered], [[0x59, 0x59], []]);
});

test('inspect() shows what was refused; there is an end to it', t => {
  const { bench } = scalableBench({ ...FULL, 'caching-mode': true }, {}, { paside: 1, pdts: 7 });
  t.is(bench.fault(IOVA, READ, 0x40), 0x51);
  t.is(bench.fault(IOVA, READ, -1, RID ^ 0x80), 0x39);
  const faulting = (): unknown[] => {
    const into = new Inspector();
    bench.unit.inspect(into);
    return (into.toJSON() as { caches: { faulting: unknown[] } }).caches.faulting;
  };
  t.deepEqual(faulting(), [
    { requesterId: RID ^ 0x80, pasid: -1, reason: 0x39, fpd: false, domain: 0 },
    { requesterId: RID, pasid: 0x40, reason: 0x51, fpd: false, domain: 0 },
  ]);
  for (let pasid = 64; pasid < 64 + 5000; pasid++) bench.fault(IOVA, READ, pasid);
  t.true(faulting().length < 4200);
});

test('what was refused is part of the state: a restored unit refuses it until it is told', t => {
  const { bench, second } = legacyBench({ 'caching-mode': true }, { p: 0, fpd: 1 });
  t.is(bench.fault(IOVA), 0x02);
  const saved = new StateWriter();
  bench.unit.save(saved);
  const other = legacyBench({ 'caching-mode': true });
  other.bench.mapAt(second, 4, IOVA, 0x9000n | RW, RW);
  other.bench.unit.reset();
  other.bench.unit.load(new StateReader(saved.section));
  t.is(other.bench.fault(IOVA), 0x02, 'although its own memory has the entry');
  t.deepEqual([other.bench.suppressed, other.bench.offered], [[0x02], []]);
  other.bench.enableQueue(false);
  other.bench.submit(CC, { type: 1, g: 3, did: 0, sid: RID });
  t.is(other.bench.fault(IOVA), 0);
});
