/** Translation requests and translated requests: what a device TLB is told, and what is recorded (vtd.md 4.2 to 4.4, 4.7, 4.9). */
import { Access, NO_PASID } from '@remora/core';
import { AtsStatus } from '@remora/iommu';
import test from 'ava';
import { Fault, GlobalCommand, IotlbDescriptor, PasidEntry, Pgtt, Reg, Ttm } from '../spec/index.js';
import { INTERRUPT_RANGE_UNTRANSLATED_ONLY, UNSUPPORTED_REASONS } from './ats-requests.js';
import { ask, ATS, ENABLED, firstRecord, granted, translated } from './ats-bench.test.helper.js';
import {
  baseEntry,
  legacyBench,
  NOWHERE,
  RID,
  scalableBench,
  type ScalableTables,
  type Values,
} from './bench.test.helper.js';
import { TRANSLATED_BEYOND_WIDTH } from './translate.js';

const { READ, WRITE, READ_WRITE, EXECUTE, PRIVILEGED } = Access;
const { UNSUPPORTED, ABORT, OK } = AtsStatus;
const IOVA = 0x12_3456_7000n;
const INTERRUPTS = 0xfee0_1000n;
/** First-stage entry: P, R/W, U/S, A, D. */
const PTE = 0x67n;
const LINK = 0x27n;
const D = 0x40n;
const XD = 1n << 63n;
const NOTHING = { to: Number(IOVA), shift: 12, access: 0 };
const LEGACY = { 'device-iotlb': true } as const;

/** RID's requests without PASID go through an empty first stage. */
function firstStage(context: Values = {}, entry: Values = {}, options: object = {}): ScalableTables {
  const more = { pgtt: Pgtt.FIRST_STAGE, pwsnp: 1, ...entry };
  return scalableBench({ ...ATS, ...options }, more, { ...ENABLED, ...context });
}

function secondStage(context: Values = {}, entry: Values = {}, options: object = {}): ScalableTables {
  return scalableBench({ ...ATS, ...options }, entry, { ...ENABLED, ...context });
}

test('legacy, TT = 01: exactly what the page grants, with its base and size', t => {
  const { bench, second } = legacyBench(LEGACY, { tt: 1 });
  bench.mapAt(second, 4, IOVA, 0x9003n, 3n);
  bench.mapAt(second, 4, IOVA + 0x1000n, 0xa001n, 3n);
  bench.mapAt(second, 4, IOVA + 0x2000n, 0xb002n, 3n);
  bench.mapAt(second, 4, 0x4000_0000n, 0x20_0083n, 3n, 2);
  bench.mapAt(second, 4, 0x8000_0000n, 0x4000_0083n, 3n, 3);
  t.deepEqual(ask(bench, IOVA + 0x123n), { to: 0x9000, shift: 12, access: READ_WRITE });
  t.deepEqual(ask(bench, IOVA + 0x1000n), { to: 0xa000, shift: 12, access: READ });
  t.deepEqual(ask(bench, IOVA + 0x2000n), { to: 0xb000, shift: 12, access: WRITE });
  t.deepEqual(ask(bench, 0x4012_3456n), { to: 0x20_0000, shift: 21, access: READ_WRITE });
  t.deepEqual(ask(bench, 0xb123_4567n), { to: 0x4000_0000, shift: 30, access: READ_WRITE });
  t.deepEqual(ask(bench, IOVA + 0x3000n), { to: Number(IOVA) + 0x3000, shift: 12, access: 0 });
  t.deepEqual(bench.offered, []);
  t.is(bench.read32(Reg.FSTS), 0);
});

test('0xD: legacy, TT = 00 and 10 block both kinds, and the record says which', t => {
  for (const tt of [0, 2]) {
    const { bench, second } = legacyBench(LEGACY, { tt });
    bench.mapAt(second, 4, IOVA, 0x9003n, 3n);
    t.is(ask(bench, IOVA), UNSUPPORTED);
    t.like(firstRecord(bench), { fr: Fault.LCT_5, at: 1, t1: 1, t2: 0, sid: RID, pp: 0, fi: Number(IOVA >> 12n) });
    bench.write32(0x22c, 0x8000_0000);
    t.is(translated(bench, 0x9000n, WRITE), UNSUPPORTED);
    t.like(firstRecord(bench), { fr: Fault.LCT_5, at: 2, t1: 0, t2: 0, fi: 9 });
    t.is(bench.fault(IOVA), 0, 'untranslated requests go on');
  }
  const { bench } = legacyBench(LEGACY, { tt: 0, fpd: 1 });
  t.is(ask(bench, IOVA), UNSUPPORTED);
  t.is(translated(bench, IOVA), UNSUPPORTED);
  t.deepEqual([bench.offered, bench.suppressed], [[], [Fault.LCT_5, Fault.LCT_5]]);
});

test('0x44: scalable mode, DTE clear blocks both kinds, before PASIDE is looked at', t => {
  for (const pasid of [NO_PASID, 5]) {
    const { bench } = secondStage({ dte: 0, paside: 0 });
    t.is(ask(bench, IOVA, READ, pasid), UNSUPPORTED);
    t.is(translated(bench, 0x9000n, READ_WRITE, pasid), UNSUPPORTED);
    t.deepEqual(bench.offered, [Fault.SCT_5, Fault.SCT_5]);
    t.like(firstRecord(bench), { fr: Fault.SCT_5, at: 1, t1: 1, t2: 0, pp: pasid === 5 ? 1 : 0 });
  }
  const { bench } = secondStage({ dte: 0, fpd: 1 });
  t.is(ask(bench, IOVA), UNSUPPORTED);
  t.deepEqual(bench.suppressed, [Fault.SCT_5]);
});

test('0x45, 0x46: PASIDs that are not enabled, or beyond the directory; a translated request only needs them enabled', t => {
  const off = secondStage({ paside: 0 }).bench;
  t.is(ask(off, IOVA, READ, 5), UNSUPPORTED);
  t.is(translated(off, 0x9000n, READ, 5), UNSUPPORTED);
  t.is(translated(off, 0x9000n), OK);
  t.deepEqual(off.offered, [Fault.SCT_6, Fault.SCT_6]);
  const { bench } = secondStage();
  t.is(ask(bench, IOVA, READ, 0x2000), UNSUPPORTED);
  t.is(translated(bench, 0x9000n, READ, 0x2000), OK);
  t.deepEqual(bench.offered, [Fault.SCT_7]);
});

test('without ECAP.DT, and while translation is off: unsupported, and nothing is recorded', t => {
  const without = legacyBench({}, { tt: 0 }).bench;
  t.is(ask(without, IOVA), UNSUPPORTED);
  t.is(translated(without, IOVA), UNSUPPORTED);
  const { bench } = legacyBench(LEGACY, { tt: 1 });
  bench.write32(Reg.GCMD, 0);
  t.is(ask(bench, IOVA), UNSUPPORTED);
  t.is(ask(bench, IOVA, READ, 5), UNSUPPORTED);
  t.is(translated(bench, IOVA), UNSUPPORTED);
  t.deepEqual([...without.offered, ...bench.offered], []);
  bench.command(GlobalCommand.TE);
  t.is(translated(bench, IOVA), OK);
});

test('legacy mode has no PASIDs (0x31); an unsupported mode fails too (0x30)', t => {
  const { bench } = legacyBench({ ...ATS }, { tt: 1 });
  t.is(ask(bench, IOVA, READ, 5), UNSUPPORTED);
  t.is(translated(bench, IOVA, READ, 5), UNSUPPORTED);
  bench.setRoot(bench.page(), Ttm.RESERVED);
  t.is(ask(bench, IOVA), ABORT);
  t.is(translated(bench, IOVA), ABORT);
  t.deepEqual(bench.offered, [Fault.RTA_2, Fault.RTA_2, Fault.RTA_1, Fault.RTA_1]);
});

/** Tables in which an untranslated read, or write, of IOVA gets this reason. */
const RECOVERABLE: readonly (readonly [reason: number, access: number, build: () => ScalableTables['bench']])[] = [
  [Fault.LGN_2, WRITE, () => legacyBench(LEGACY, { tt: 1 }).bench],
  [Fault.LGN_3, READ, () => legacyBench(LEGACY, { tt: 1 }).bench],
  [
    Fault.SPD_2,
    READ,
    () => {
      const { bench, directory } = firstStage();
      bench.put64(directory * 4096, 0n);
      return bench;
    },
  ],
  [
    Fault.SPT_2,
    READ,
    () => {
      const { bench, entry } = firstStage();
      bench.put64(entry, 0n);
      return bench;
    },
  ],
  [
    Fault.SFS_1,
    READ,
    () => {
      const { bench, first } = firstStage();
      bench.mapAt(first, 4, IOVA, (BigInt(NOWHERE) << 12n) | LINK, LINK, 4);
      return bench;
    },
  ],
  [Fault.SFS_2, READ, () => firstStage().bench],
  [
    Fault.SFS_3,
    READ,
    () => {
      const { bench, first } = firstStage();
      bench.mapAt(first, 4, IOVA, 0x9000n | PTE | (1n << 51n), LINK);
      return bench;
    },
  ],
  [Fault.SFS_4, READ, () => firstStage({}, { fsptptr: NOWHERE }).bench],
  [
    Fault.SGN_2,
    READ,
    () => {
      const { bench, first } = firstStage();
      bench.mapAt(first, 4, IOVA, 0x9063n, LINK);
      return bench;
    },
  ],
  // By the same logic (UNCONFIRMED).
  [Fault.SSS_2, READ, () => secondStage().bench],
];

for (const [reason, access, build] of RECOVERABLE) {
  test(`recoverable: 0x${reason.toString(16)} is answered with nothing granted, and not recorded`, t => {
    const untranslated = build();
    t.is(untranslated.fault(IOVA, access), reason);
    const bench = build();
    t.deepEqual(ask(bench, IOVA), NOTHING);
    t.deepEqual([bench.offered, bench.suppressed], [[], []]);
  });
}

test('recoverable: addresses that are not canonical (0x80), or beyond the second stage (0x84, UNCONFIRMED)', t => {
  const first = firstStage().bench;
  t.is(granted(first, 1n << 47n), 0);
  t.is(first.fault(1n << 47n), Fault.SGN_1);
  const second = secondStage({}, { aw: 1 }).bench;
  t.is(granted(second, 1n << 39n), 0);
  t.is(second.fault(1n << 39n), Fault.SGN_5);
  t.deepEqual([...first.offered, ...second.offered], [Fault.SGN_1, Fault.SGN_5], 'of the untranslated ones');
});

test('lacking permission is no fault (0x85, 0x86): what is left is granted', t => {
  const { bench, second } = secondStage();
  bench.mapAt(second, 4, IOVA, 0x9001n, 3n);
  bench.mapAt(second, 4, IOVA + 0x1000n, 0xa002n, 3n);
  t.is(granted(bench, IOVA), READ);
  t.is(granted(bench, IOVA + 0x1000n), WRITE);
  const stage1 = firstStage();
  stage1.bench.mapAt(stage1.first, 4, IOVA, 0x9065n, LINK);
  t.is(granted(stage1.bench, IOVA), READ);
  t.deepEqual([...bench.offered, ...stage1.bench.offered], []);
});

/** Errors of programming: [reason, how to get it in scalable mode]. */
const ERRORS: readonly (readonly [reason: number, damage: (tables: ScalableTables) => void, iova?: bigint])[] = [
  [Fault.SRT_2, ({ bench, rootEntry }) => bench.put64(rootEntry, 0n)],
  [Fault.SRT_3, ({ bench, rootEntry }) => bench.flip(rootEntry, 1)],
  [Fault.SCT_1, ({ bench, rootEntry }) => bench.put64(rootEntry, (BigInt(NOWHERE) << 12n) | 1n)],
  [Fault.SCT_2, ({ bench, context }) => bench.flip(context, 0)],
  [Fault.SCT_3, ({ bench, context }) => bench.flip(context, 5)],
  [Fault.SPD_1, ({ bench, context }) => bench.put64(context, (BigInt(NOWHERE) << 12n) | 0x1dn)],
  [Fault.SPD_3, ({ bench, directory }) => bench.flip(directory * 4096, 2)],
  [Fault.SPT_1, ({ bench, directory }) => bench.put64(directory * 4096, (BigInt(NOWHERE) << 12n) | 1n)],
  [Fault.SPT_3, ({ bench, entry }) => bench.flip(entry, 5)],
  [Fault.SPT_4, ({ bench, entry }) => bench.flip(entry, 8)],
  [Fault.SSS_1, ({ bench, second }) => bench.mapAt(second, 4, IOVA, (BigInt(NOWHERE) << 12n) | 3n, 3n, 4)],
  [Fault.SSS_3, ({ bench, second }) => bench.mapAt(second, 4, IOVA, 0x9003n | (1n << 62n), 3n)],
];

for (const [reason, damage] of ERRORS) {
  test(`an error in the tables, 0x${reason.toString(16)}, aborts the request and is recorded once`, t => {
    const tables = secondStage();
    damage(tables);
    t.is(ask(tables.bench, IOVA), ABORT);
    t.deepEqual(tables.bench.offered, [reason]);
    t.like(firstRecord(tables.bench), { fr: reason, at: 1, t1: 1, t2: 0, sid: RID, fi: Number(IOVA >> 12n) });
  });
}

test('FPD suppresses the record of an error, not the failure', t => {
  const { bench, second } = secondStage({}, { fpd: 1 });
  bench.mapAt(second, 4, IOVA, 0x9003n | (1n << 62n), 3n);
  t.is(ask(bench, IOVA), ABORT);
  t.deepEqual([bench.offered, bench.suppressed], [[], [Fault.SSS_3]]);
});

test('which failures say that the unit serves no such request is a constant (UNCONFIRMED)', t => {
  t.deepEqual(
    [...UNSUPPORTED_REASONS].sort((a, b) => a - b),
    [0x0d, 0x31, 0x33, 0x44, 0x45, 0x46],
  );
});

test('the record of a translation request with PASID has its attributes', t => {
  const { bench, second, first, entryOf } = secondStage({}, {}, {});
  bench.put(entryOf(5), PasidEntry.encode({ ...baseEntry(second, first), p: 1, aw: 0 } as never));
  t.is(ask(bench, IOVA, READ_WRITE | EXECUTE | PRIVILEGED, 5), ABORT);
  t.like(firstRecord(bench), { fr: Fault.SPT_4, pp: 1, pv: 5, exe: 1, priv: 1, at: 1, t1: 1, t2: 0 });
});

test('D is set for a device that may write; with NW it is not, and W is granted only where it was set', t => {
  const { bench, first } = firstStage();
  const leaf = bench.mapAt(first, 4, IOVA, 0x9000n | LINK, LINK);
  t.is(granted(bench, IOVA, READ), READ);
  t.is(bench.get64(leaf) & D, 0n);
  t.is(granted(bench, IOVA, READ_WRITE), READ_WRITE);
  t.is(bench.get64(leaf) & D, D);
  t.is(granted(bench, IOVA, READ), READ_WRITE, 'W, as D is set');
  const nested = scalableBench(ATS, { ssade: 1, pwsnp: 1 }, ENABLED);
  const page = nested.bench.mapAt(nested.second, 4, IOVA, 0x9003n, 3n);
  t.is(granted(nested.bench, IOVA, READ), READ);
  t.is(nested.bench.get64(page), 0x9103n, 'second stage: A only');
  t.is(granted(nested.bench, IOVA, READ_WRITE), READ_WRITE);
  t.is(nested.bench.get64(page), 0x9303n);
});

test('D of a page that may not be written stays as it is', t => {
  const { bench, first } = firstStage();
  const leaf = bench.mapAt(first, 4, IOVA, 0x9005n, LINK);
  t.is(granted(bench, IOVA), READ);
  t.is(bench.get64(leaf), 0x9025n, 'A');
});

test('without ECAP.NWFS a request cannot say that it will not write', t => {
  const { bench, first } = firstStage({}, {}, { 'x-nwfs': false });
  const leaf = bench.mapAt(first, 4, IOVA, 0x9000n | LINK, LINK);
  t.is(granted(bench, IOVA, READ), READ_WRITE);
  t.is(bench.get64(leaf) & D, D);
});

test('execute is granted if asked for with a PASID, offered by ECAP.ERS, and permitted', t => {
  const build = (ers: boolean, xd: bigint): number => {
    const { bench, second, first, entryOf } = firstStage({}, {}, { 'x-ers': ers });
    const entry = { ...baseEntry(second, first), pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 };
    bench.put(entryOf(5), PasidEntry.encode(entry as never));
    bench.mapAt(first, 4, IOVA, 0x9000n | PTE | xd, LINK);
    t.is(granted(bench, IOVA, READ_WRITE, 5), READ_WRITE);
    t.is(granted(bench, IOVA, READ_WRITE | EXECUTE), READ_WRITE, 'no PASID, no attribute');
    return granted(bench, IOVA, READ_WRITE | EXECUTE, 5);
  };
  t.is(build(false, 0n), READ_WRITE);
  t.is(build(true, 0n), READ_WRITE | EXECUTE);
  t.is(build(true, XD), READ_WRITE);
});

test('privileged: nothing without SRE, the privileged view with it', t => {
  const { bench, second, first, entryOf } = firstStage();
  const entry = { ...baseEntry(second, first), pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 };
  bench.put(entryOf(5), PasidEntry.encode(entry as never));
  bench.put(entryOf(6), PasidEntry.encode({ ...entry, sre: 1, wpe: 1 } as never));
  bench.put(entryOf(7), PasidEntry.encode({ ...entry, sre: 1 } as never));
  bench.mapAt(first, 4, IOVA, 0x9061n, LINK);
  const flags = ['privileged'];
  t.deepEqual(ask(bench, IOVA, READ_WRITE | PRIVILEGED, 5), { ...NOTHING, flags });
  t.deepEqual(ask(bench, IOVA, READ_WRITE | PRIVILEGED, 6), { to: 0x9000, shift: 12, access: READ, flags });
  t.deepEqual(ask(bench, IOVA, READ_WRITE | PRIVILEGED, 7), { to: 0x9000, shift: 12, access: READ_WRITE, flags });
  t.deepEqual(ask(bench, IOVA, READ_WRITE, 7), NOTHING, 'a user may not use it');
  t.deepEqual(bench.offered, []);
});

test('nested: permissions of both stages, and the smaller page', t => {
  const { bench, second, first } = secondStage({}, { pgtt: Pgtt.NESTED, pwsnp: 1 });
  // The tables of the first stage are where they are; pages behind 0x4000_0000 are mapped singly.
  for (const at of [0n, 0x20_0000n]) bench.mapAt(second, 4, at, at | 0x83n, 3n, 2);
  bench.mapAt(second, 4, 0x4000_0000n, 0x9003n, 3n);
  bench.mapAt(second, 4, 0x4000_1000n, 0xa001n, 3n);
  bench.mapAt(second, 4, 0x8000_0000n, 0xc000_0083n, 3n, 3);
  bench.mapAt(first, 4, IOVA, 0x4000_0000n | PTE, LINK);
  bench.mapAt(first, 4, IOVA + 0x1000n, 0x4000_1000n | LINK, LINK);
  bench.mapAt(first, 4, IOVA + 0x2000n, 0x4000_0065n, LINK);
  bench.mapAt(first, 4, 0x7f_0000_0000n, 0x8020_0000n | PTE | 0x80n, LINK, 2);
  t.deepEqual(ask(bench, IOVA), { to: 0x9000, shift: 12, access: READ_WRITE });
  t.deepEqual(ask(bench, IOVA + 0x1000n), { to: 0xa000, shift: 12, access: READ }, 'the second stage forbids writing');
  t.deepEqual(ask(bench, IOVA + 0x2000n), { to: 0x9000, shift: 12, access: READ }, 'the first stage does');
  t.deepEqual(ask(bench, 0x7f_0000_0000n), { to: 0xc020_0000, shift: 21, access: READ_WRITE });
  t.deepEqual(bench.offered, []);
});

test('pass-through: the page itself, reading and writing, no executing; beyond the host width an error', t => {
  const { bench } = secondStage({}, { pgtt: Pgtt.PASS_THROUGH }, { 'x-ers': true });
  t.deepEqual(ask(bench, IOVA + 0x10n, READ_WRITE | EXECUTE, 0), { to: Number(IOVA), shift: 12, access: READ_WRITE });
  t.is(ask(bench, 1n << 48n), ABORT);
  t.deepEqual(bench.offered, [Fault.SGN_4]);
});

test('the interrupt range: nothing granted, nothing recorded; the request that is in it may be untranslated only (UNCONFIRMED)', t => {
  t.true(INTERRUPT_RANGE_UNTRANSLATED_ONLY);
  const legacy = legacyBench(LEGACY, { tt: 1 });
  legacy.bench.mapAt(legacy.second, 4, INTERRUPTS, 0x9003n, 3n);
  legacy.bench.mapAt(legacy.second, 4, IOVA, INTERRUPTS | 3n, 3n);
  const there = { to: Number(INTERRUPTS), shift: 12, access: 0, flags: ['untranslatedOnly'] };
  t.deepEqual(ask(legacy.bench, INTERRUPTS), there);
  t.deepEqual(ask(legacy.bench, IOVA), NOTHING);
  t.is(legacy.bench.fault(IOVA), Fault.LGN_4);
  const { bench, first, second, entryOf } = firstStage();
  bench.put(entryOf(5), PasidEntry.encode({ ...baseEntry(second, first), pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 } as never));
  bench.mapAt(first, 4, INTERRUPTS, 0x9000n | PTE, LINK);
  bench.mapAt(first, 4, IOVA, INTERRUPTS | PTE, LINK);
  t.deepEqual(ask(bench, INTERRUPTS), there);
  t.deepEqual(
    ask(bench, INTERRUPTS, READ, 5),
    { to: 0x9000, shift: 12, access: READ_WRITE },
    'no interrupts with a PASID',
  );
  t.deepEqual(ask(bench, IOVA, READ, 5), NOTHING);
  t.deepEqual([...legacy.bench.offered, ...bench.offered], [Fault.LGN_4]);
});

test('a large page around the interrupt range is granted page by page to requests without PASID', t => {
  const { bench, second } = legacyBench(LEGACY, { tt: 1 });
  bench.mapAt(second, 4, 0xfee0_0000n, 0x4000_0083n, 3n, 2);
  t.deepEqual(ask(bench, 0xfef0_1000n), { to: 0x4010_1000, shift: 12, access: READ_WRITE });
});

test('translated requests: as they are, within the host width and outside the interrupt range', t => {
  const legacy = legacyBench(LEGACY, { tt: 1 }).bench;
  t.is(translated(legacy, 0x9000n), OK, 'no walk: nothing is mapped there');
  t.is(translated(legacy, 1n << 48n), ABORT);
  t.is(translated(legacy, INTERRUPTS, WRITE), ABORT);
  t.is(translated(legacy, 0x1_fee0_1000n), OK, 'above 4 GiB it is memory');
  t.deepEqual(legacy.offered, [TRANSLATED_BEYOND_WIDTH.legacy, Fault.LGN_4]);
  const { bench } = secondStage();
  t.is(translated(bench, 0x9000n, READ_WRITE, 5), OK);
  t.is(translated(bench, INTERRUPTS, READ_WRITE, 5), ABORT);
  t.like(firstRecord(bench), { fr: Fault.SGN_8, at: 2, t1: 1, t2: 1, pp: 1, pv: 5, fi: Number(INTERRUPTS >> 12n) });
  t.is(translated(bench, 1n << 48n), ABORT);
  t.deepEqual(bench.offered, [Fault.SGN_8, TRANSLATED_BEYOND_WIDTH.scalable]);
  t.deepEqual(TRANSLATED_BEYOND_WIDTH, { legacy: 0x04, scalable: 0x83 }, 'UNCONFIRMED');
});

test('answers come from the IOTLB like other translations, and go with its invalidation', t => {
  const { bench, second } = legacyBench(LEGACY, { tt: 1 });
  bench.enableQueue(false);
  bench.mapAt(second, 4, IOVA, 0x9001n, 3n);
  t.is(granted(bench, IOVA), READ);
  bench.mapAt(second, 4, IOVA, 0xa003n, 3n);
  t.deepEqual(ask(bench, IOVA), { to: 0xa000, shift: 12, access: READ_WRITE }, 'what is cached does not permit it');
  bench.mapAt(second, 4, IOVA, 0n, 3n);
  t.is(granted(bench, IOVA), READ_WRITE);
  t.true(bench.submit(IotlbDescriptor, { type: 2, g: 3, did: 7, addr: IOVA >> 12n }));
  t.is(granted(bench, IOVA), 0);
});

test('compat=qemu-10.2: any translated request without PASID passes, no other does', t => {
  const { bench } = legacyBench({ ...LEGACY, compat: 'qemu-10.2' }, { tt: 0 });
  t.is(translated(bench, INTERRUPTS), OK);
  t.is(translated(bench, 0x9000n, READ, 5), UNSUPPORTED);
  t.deepEqual(bench.offered, []);
});

test('compat=qemu-10.2: an output in the interrupt range fails a translation request, and is recorded', t => {
  const { bench, second } = legacyBench({ ...LEGACY, compat: 'qemu-10.2' }, { tt: 1 });
  bench.mapAt(second, 4, IOVA, INTERRUPTS | 3n, 3n);
  bench.mapAt(second, 4, IOVA + 0x1000n, 0x9001n, 3n);
  t.is(ask(bench, IOVA), ABORT);
  t.deepEqual(bench.offered, [Fault.LGN_4]);
  t.is(granted(bench, IOVA + 0x1000n), READ);
  t.is(granted(bench, IOVA + 0x2000n), 0);
});
