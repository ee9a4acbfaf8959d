import { Access } from '@remora/core';
import test from 'ava';
import { PasidDirectoryEntry, PasidEntry, Pgtt } from '../spec/index.js';
import { baseEntry, DID, FULL, NOWHERE, RID, scalableBench, type Values } from './bench.test.helper.js';

const ALL = Access.READ_WRITE | Access.EXECUTE;
const NOT_MAPPED = 0x79;

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

/** The unit of RFC v3.1's legacy mode: second stage only. */
const SECOND_ONLY = { 'x-scalable-mode': 'on' } as const;
const FIRST_ONLY = { 'x-scalable-mode': 'on', 'x-flts': true } as const;

test('0x38, 0x39: root table not readable, selected half not present', t => {
  const { bench, rootEntry } = scalableBench();
  bench.flip(rootEntry, 0);
  t.is(bench.fault(0), 0x39);
  bench.setRoot(NOWHERE, 1);
  t.is(bench.fault(0), 0x38);
});

test('0x3A: each reserved bit of the selected half; the other half does not matter', t => {
  const bits = [...range(1, 12), ...range(48, 64)];
  for (const bit of bits) {
    const lower = scalableBench();
    lower.bench.flip(lower.rootEntry, bit);
    t.is(lower.bench.fault(0), 0x3a, `bit ${bit}`);
    const upper = scalableBench();
    upper.bench.flip(upper.rootEntry, 64);
    upper.bench.flip(upper.rootEntry, 64 + bit);
    t.is(upper.bench.fault(0), NOT_MAPPED, 'garbage in the other half');
    t.is(upper.bench.fault(0, Access.READ, -1, RID | 0x80), 0x3a, `upper half, bit ${bit}`);
  }
});

test('0x40, 0x41: context table not readable, entry not present', t => {
  const { bench, rootEntry, context } = scalableBench();
  bench.put64(context, 0xffff_ffff_ffff_fff0n);
  t.is(bench.fault(0), 0x41);
  bench.put64(rootEntry, BigInt(NOWHERE * 4096 + 1));
  t.is(bench.fault(0), 0x40);
});

test('0x42: each reserved bit of a context entry, with the fields of missing capabilities', t => {
  // nesting=on: PASIDs, but no device TLB, page requests, RID_PASID or RID_PRIV.
  const bits = [2, 4, ...range(5, 9), ...range(48, 64), ...range(64, 256)];
  for (const bit of bits) {
    const { bench, context } = scalableBench();
    bench.flip(context, bit);
    t.is(bench.fault(0), 0x42, `bit ${bit}`);
  }
  const allowed = (options: object, bit: number): number => {
    const { bench, context } = scalableBench({ ...FULL, ...options });
    bench.flip(context, bit);
    return bench.fault(0);
  };
  t.is(allowed({}, 3), NOT_MAPPED, 'PASIDE');
  t.is(allowed({ 'device-iotlb': true }, 2), NOT_MAPPED, 'DTE');
  t.is(allowed({ 'x-rps': true }, 64 + 19), 0x43, 'RID_PASID above the directory');
  t.is(allowed({}, 9), NOT_MAPPED, 'PDTS');
  const { bench, context } = scalableBench(SECOND_ONLY);
  bench.flip(context, 3);
  t.is(bench.fault(0), 0x42, 'PASIDE without ECAP.PASID');
});

test('RID_PASID: with RPS it selects the entry; 0x43 beyond the directory', t => {
  const { bench, entryOf, second, first } = scalableBench({ ...FULL, 'x-rps': true }, {}, { ridPasid: 9 });
  t.is(bench.fault(0x1000), 0x59);
  bench.put(entryOf(9), PasidEntry.encode({ ...baseEntry(second, first), pgtt: Pgtt.PASS_THROUGH }));
  t.like(bench.request(0x1000), { to: 0x1000 });
  t.is(scalableBench({ ...FULL, 'x-rps': true }, {}, { ridPasid: 8191 }).bench.fault(0), 0x50 + 1);
  t.is(scalableBench({ ...FULL, 'x-rps': true }, {}, { ridPasid: 8192 }).bench.fault(0), 0x43);
  t.is(scalableBench({ ...FULL, 'x-rps': true }, {}, { ridPasid: 8192, pdts: 1 }).bench.fault(0), 0x51);
});

test('0x45: PASIDs not enabled; 0x46: PASID beyond the directory, for every PDTS', t => {
  t.is(scalableBench().bench.fault(0, Access.READ, 0), 0x45);
  for (let pdts = 0; pdts < 8; pdts++) {
    const limit = 2 ** (pdts + 13);
    const { bench, directory } = scalableBench(undefined, {}, { paside: 1, pdts });
    const last = directory * 4096 + (limit / 64 - 1) * 8;
    const table = bench.page();
    // The directory may be longer than the page that the bench gave it.
    if (last < directory * 4096 + 4096) bench.put(last, PasidDirectoryEntry.encode({ p: 1, smptblptr: table }));
    t.is(bench.fault(0, Access.READ, limit - 1), last < directory * 4096 + 4096 ? 0x59 : 0x51, `pdts ${pdts}`);
    if (limit < 2 ** 20) t.is(bench.fault(0, Access.READ, limit), 0x46, `pdts ${pdts}`);
  }
});

test('0x50, 0x51, 0x52: the PASID directory', t => {
  t.is(scalableBench(undefined, {}, { pasiddirptr: NOWHERE }).bench.fault(0), 0x50);
  const absent = scalableBench();
  absent.bench.put64(absent.directory * 4096, 0xffff_ffff_ffff_fffcn);
  t.is(absent.bench.fault(0), 0x51);
  for (const bit of [...range(2, 12), ...range(48, 64)]) {
    const { bench, directory } = scalableBench();
    bench.flip(directory * 4096, bit);
    t.is(bench.fault(0), 0x52, `bit ${bit}`);
  }
});

test('0x58, 0x59: the PASID table', t => {
  const { bench, directory, entry } = scalableBench();
  bench.put64(entry, 0xffff_ffff_ffff_fffcn);
  t.is(bench.fault(0), 0x59);
  bench.put64(directory * 4096, BigInt(NOWHERE * 4096) | 1n);
  t.is(bench.fault(0), 0x58);
});

/** Reserved bits of a PASID entry beyond the record's own, by what the unit lacks (vtd.md 3.6). */
const ENTRY_RESERVED = [5, 10, 11, ...range(64 + 16, 64 + 23), ...range(128 + 8, 128 + 12), ...range(192, 512)];
const MEMORY_TYPES = [...range(64 + 25, 64 + 32), ...range(96, 128)];
const ERE = 129;

test('0x5A: each reserved bit of a PASID entry in use', t => {
  const bits = [...ENTRY_RESERVED, ...MEMORY_TYPES, ERE, 64 + 24];
  const high = range(48, 64);
  for (const bit of [...bits, ...high]) {
    const { bench, entry } = scalableBench();
    bench.flip(entry, bit);
    t.is(bench.fault(0), 0x5a, `bit ${bit}`);
  }
  for (const bit of range(128 + 48, 192)) {
    const { bench, entry } = scalableBench(undefined, { pgtt: Pgtt.FIRST_STAGE });
    bench.flip(entry, bit);
    t.is(bench.fault(0), 0x5a, `first-stage pointer, bit ${bit}`);
  }
  for (const bit of [9, 64 + 23, 128, 132, 133, 134, 135]) {
    const { bench, entry } = scalableBench();
    bench.flip(entry, bit);
    t.is(bench.fault(0), NOT_MAPPED, `allowed: bit ${bit}`);
  }
});

test('0x5A: without capabilities their fields are reserved', t => {
  for (const bit of [9, 64 + 23, 135]) {
    const { bench, entry } = scalableBench({ nesting: true });
    bench.flip(entry, bit);
    t.is(bench.fault(0), 0x5a, `SSADE, PWSNP, EAFE: bit ${bit}`);
  }
  // Without a first stage its group is reserved, but for the ignored bits 5 and 6 and SRE.
  const entry = { fsptptr: 0 };
  for (const bit of range(130, 192)) {
    const second = scalableBench(SECOND_ONLY, entry);
    second.bench.flip(second.entry, bit);
    t.is(second.bench.fault(0), bit === 133 || bit === 134 ? NOT_MAPPED : 0x5a, `second stage only: bit ${bit}`);
  }
  // Without a second stage its group is reserved, even for pass-through.
  const none = { pgtt: Pgtt.PASS_THROUGH, aw: 0, ssptptr: 0 };
  t.is(scalableBench(FIRST_ONLY, none).bench.fault(0), 0);
  for (const bit of [2, 3, 4, 9, ...range(12, 64)]) {
    const first = scalableBench(FIRST_ONLY, none);
    first.bench.flip(first.entry, bit);
    t.is(first.bench.fault(0), 0x5a, `first stage only: bit ${bit}`);
  }
});

test('what a translation type does not use is ignored', t => {
  const passThrough = {
    pgtt: Pgtt.PASS_THROUGH,
    aw: 7,
    ssptptr: 2 ** 51,
    fsptptr: 2 ** 51,
    ssade: 1,
    pwsnp: 1,
    fspm: 3,
  };
  t.like(scalableBench(undefined, passThrough).bench.request(0x1234), { to: 0x1000, access: ALL });
  t.is(scalableBench(undefined, { pgtt: Pgtt.FIRST_STAGE, aw: 7, ssptptr: 2 ** 51 }).bench.fault(0), 0x71);
  t.is(scalableBench(undefined, { fsptptr: 2 ** 51, fspm: 3 }).bench.fault(0), NOT_MAPPED);
});

test('0x5B: types, widths and modes that are not offered', t => {
  const outcome = (options: object, entry: Values): number => scalableBench(options, entry).bench.fault(0);
  for (const pgtt of [0, 5, 6, 7]) t.is(outcome(FULL, { pgtt }), 0x5b, `pgtt ${pgtt}`);
  t.is(outcome(SECOND_ONLY, { pgtt: Pgtt.FIRST_STAGE, fsptptr: 0 }), 0x5b);
  t.is(outcome(SECOND_ONLY, { pgtt: Pgtt.NESTED, fsptptr: 0 }), 0x5b);
  t.is(outcome(FIRST_ONLY, { pgtt: Pgtt.SECOND_STAGE, aw: 0, ssptptr: 0 }), 0x5b);
  t.is(outcome({ ...FULL, pt: false }, { pgtt: Pgtt.PASS_THROUGH }), 0x5b);
  for (let aw = 0; aw < 8; aw++) {
    t.is(outcome(FULL, { aw }), aw === 1 || aw === 2 ? NOT_MAPPED : 0x5b, `second stage, aw ${aw}`);
    t.is(outcome(FULL, { pgtt: Pgtt.NESTED, aw }) === 0x5b, aw !== 1 && aw !== 2, `nested, aw ${aw}`);
  }
  for (let fspm = 0; fspm < 4; fspm++) {
    t.is(outcome(FULL, { pgtt: Pgtt.FIRST_STAGE, fspm }), fspm === 0 ? 0x71 : 0x5b, `fspm ${fspm}`);
    const wide = { ...FULL, 'aw-bits': 57 };
    t.is(outcome(wide, { pgtt: Pgtt.FIRST_STAGE, fspm }), fspm <= 1 ? 0x71 : 0x5b, `57 bits, fspm ${fspm}`);
  }
});

test('0x5D: privileged requests need SRE; without PASID the flag does not count', t => {
  const request = Access.READ | Access.PRIVILEGED;
  const context = { paside: 1 };
  t.is(scalableBench(undefined, {}, context).bench.fault(0, request, 0), 0x5d);
  t.is(scalableBench(undefined, { sre: 1 }, context).bench.fault(0, request, 0), NOT_MAPPED);
  t.is(scalableBench(undefined, {}, context).bench.fault(0, request), NOT_MAPPED);
});

test('0x83, 0x87: pass-through beyond the host width and into the interrupt range', t => {
  const { bench } = scalableBench(undefined, { pgtt: Pgtt.PASS_THROUGH }, { paside: 1 });
  t.is(bench.fault((1n << 48n) - 1n), 0);
  t.is(bench.fault(1n << 48n), 0x83);
  t.is(bench.fault(0xfee0_0000, Access.WRITE, 0), 0x87, 'with a PASID it is no interrupt');
  t.is(bench.fault(0xfee0_0000, Access.WRITE), 0);
  t.is(bench.fault(0xfee0_0000, Access.READ), 0x87);
});

test('second stage: scalable-mode reasons', t => {
  const { bench, second } = scalableBench();
  t.is(bench.fault(1n << 48n), 0x84);
  t.is(bench.fault(0x5000), 0x79);
  bench.mapAt(second, 4, 0x5000n, 0x9001n, 3n);
  bench.mapAt(second, 4, 0x6000n, 0x9002n, 3n);
  bench.mapAt(second, 4, 0x7000n, 0x9003n | (1n << 62n), 3n);
  bench.mapAt(second, 4, 0x8000n, 0xfee0_0003n, 3n);
  t.is(bench.fault(0x5000, Access.WRITE), 0x85);
  t.is(bench.fault(0x6000, Access.READ), 0x86);
  t.is(bench.fault(0x7000), 0x7a);
  t.is(bench.fault(0x8000), 0x87);
  bench.put64(second * 4096 + 8, BigInt(NOWHERE * 4096) | 3n);
  t.is(bench.fault(1n << 39n), 0x78);
  t.is(scalableBench(undefined, { ssptptr: NOWHERE }).bench.fault(0), 0x7b);
  t.is(scalableBench(undefined, { aw: 1 }).bench.fault(1n << 39n), 0x84);
});

test('compat=qemu-10.2: legacy reasons in scalable mode, RID_PASID honoured, limits not checked', t => {
  const compat = { ...SECOND_ONLY, compat: 'qemu-10.2' } as const;
  const entry = { fsptptr: 0 };
  const { bench, second, rootEntry } = scalableBench(compat, entry);
  t.is(bench.fault(1n << 48n), 0x04);
  t.is(bench.fault(0x5000), 0x06);
  bench.mapAt(second, 4, 0x8000n, 0xfee0_0003n, 3n);
  t.is(bench.fault(0x8000), 0x87);
  bench.flip(rootEntry, 0);
  bench.command(0x4000_0000);
  t.is(bench.fault(0), 0x01);
  const rid = scalableBench(compat, entry, { ridPasid: 9 });
  rid.bench.put(rid.entryOf(9), PasidEntry.encode({ p: 1, pgtt: Pgtt.PASS_THROUGH, aw: 2, did: DID }));
  t.like(rid.bench.request(0x1000), { to: 0x1000 });
});

test('compat=qemu-10.2: PASID entries are read anew, context fields are not reserved', t => {
  const compat = { ...SECOND_ONLY, compat: 'qemu-10.2' } as const;
  const { bench, entry, context, second } = scalableBench(compat, { fsptptr: 0 });
  bench.mapAt(second, 4, 0x5000n, 0x9003n, 3n);
  for (const bit of [2, 3, 4, 64 + 20]) bench.flip(context, bit);
  t.is(bench.fault(0x5000), 0);
  bench.flip(entry, 6);
  t.is(bench.fault(0x5000), 0x5b);
});

test('readContextEntry and readPasidEntry: straight from memory, no fault, no cache', t => {
  const { bench, entry, entryOf, context } = scalableBench();
  const words = new Int32Array(16);
  t.is(bench.unit.readContextEntry(RID, words), 0);
  t.is(bench.unit.readPasidEntry(RID, 0, words), 0);
  t.is(PasidEntry.fields.did.get(words, 0), DID);
  t.is(bench.unit.readPasidEntry(RID, 1, words), 0x59);
  t.is(bench.unit.readPasidEntry(RID, 8192, words), 0x46);
  bench.put(entryOf(1), PasidEntry.encode({ p: 1, pgtt: Pgtt.PASS_THROUGH, did: 9 }));
  t.is(bench.unit.readPasidEntry(RID, 1, words), 0);
  bench.fault(0);
  bench.flip(entry, 0);
  bench.flip(context, 0);
  t.is(bench.unit.readPasidEntry(RID, 0, words), 0x41);
  t.deepEqual(bench.offered, [0x79]);
});
