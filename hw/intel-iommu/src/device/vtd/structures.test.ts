/**
 * vtd.md 3.1 to 3.6, checklist 13.3: every bit of every lookup structure, one at a time, for units with and without the capabilities
 * that give it a meaning; and entries that are not present, with all other bits set. Bit numbers are the reference's.
 */
import { Access } from '@remora/core';
import test from 'ava';
import { FULL, legacyBench, RID, scalableBench, type Values } from '../bench.test.helper.js';

const IOVA = 0x5000n;
const ALL = 0xffff_ffff_ffff_ffffn;

type Bits = readonly (number | readonly [msb: number, lsb: number])[];

/** The bits that a reference's row names, counted over the whole structure. */
function bitsOf(rows: Bits, base = 0): Set<number> {
  const bits = new Set<number>();
  for (const row of rows) {
    const [msb, lsb] = typeof row === 'number' ? [row, row] : row;
    for (let bit = lsb; bit <= msb; bit++) bits.add(base + bit);
  }
  return bits;
}

const union = (...sets: readonly ReadonlySet<number>[]): Set<number> => new Set(sets.flatMap(set => [...set]));

interface Subject {
  readonly bytes: number;
  /** Bits that give the reserved-field reason when they are set, and only those. */
  readonly reserved: ReadonlySet<number>;
  /** Fields whose values are tested elsewhere, and P. */
  readonly meaningful: ReadonlySet<number>;
  readonly reason: number;
  readonly rid?: number;
  /** A structure in order, and where it is. */
  make(): { readonly tables: Pick<ReturnType<typeof legacyBench>, 'bench'>; readonly address: number };
}

function everyBit(title: string, { bytes, reserved, meaningful, reason, rid = RID, make }: Subject): void {
  test(title, t => {
    const usual = make().tables.bench.fault(IOVA, Access.READ, -1, rid);
    for (let bit = 0; bit < bytes * 8; bit++) {
      if (meaningful.has(bit)) continue;
      const { tables, address } = make();
      tables.bench.flip(address, bit);
      const expected = reserved.has(bit) ? reason : usual;
      t.is(tables.bench.fault(IOVA, Access.READ, -1, rid), expected, `bit ${bit}`);
    }
  });
}

for (const width of [39, 48, 57] as const) {
  const haw = Math.min(width, 52);
  const options = { 'aw-bits': width };
  const levels = width === 39 ? 3 : width === 48 ? 4 : 5;

  everyBit(`3.1: legacy root entry, ${width} bits: reserved are 11:1, 63:${haw} and the upper quadword`, {
    bytes: 16,
    reserved: union(
      bitsOf([
        [11, 1],
        [63, haw],
      ]),
      bitsOf([[63, 0]], 64),
    ),
    meaningful: bitsOf([0, [haw - 1, 12]]),
    reason: 0x0a,
    make() {
      const tables = legacyBench(options, {}, levels);
      return { tables, address: tables.rootEntry };
    },
  });

  everyBit(
    `3.3: legacy context entry, ${width} bits: reserved are 11:4, 63:${haw}, and 7 and 63:24 of the upper quadword`,
    {
      bytes: 16,
      reserved: union(
        bitsOf([
          [11, 4],
          [63, haw],
        ]),
        bitsOf([7, [63, 24]], 64),
      ),
      meaningful: union(
        bitsOf([
          [3, 0],
          [haw - 1, 12],
        ]),
        bitsOf([[2, 0]], 64),
      ),
      reason: 0x0b,
      make() {
        const tables = legacyBench(options, {}, levels);
        return { tables, address: tables.context };
      },
    },
  );
}

everyBit('3.3: a pass-through context entry ignores its table pointer, bits above the host width too', {
  bytes: 16,
  reserved: union(bitsOf([[11, 4]]), bitsOf([7, [63, 24]], 64)),
  meaningful: union(bitsOf([[3, 0]]), bitsOf([[2, 0]], 64)),
  reason: 0x0b,
  make() {
    const tables = legacyBench({}, { tt: 2 });
    return { tables, address: tables.context };
  },
});

for (const upper of [false, true]) {
  everyBit(
    `3.2: scalable root entry, ${upper ? 'upper' : 'lower'} half: its own 11:1 and 63:48; the other half is ignored`,
    {
      bytes: 16,
      reserved: bitsOf(
        [
          [11, 1],
          [63, 48],
        ],
        upper ? 64 : 0,
      ),
      meaningful: bitsOf([0, [47, 12]], upper ? 64 : 0),
      reason: 0x3a,
      rid: upper ? RID | 0x80 : RID,
      make() {
        const tables = scalableBench();
        // Both halves are present and lead to the same contexts.
        tables.bench.put64(tables.rootEntry + 8, tables.bench.get64(tables.rootEntry));
        return { tables, address: tables.rootEntry };
      },
    },
  );
}

/** Scalable context fields by the capability that they need. */
const CONTEXT_FIELDS = [
  {
    name: 'no device TLBs, PASIDs, RID_PASID',
    options: { 'x-scalable-mode': 'on' },
    gone: bitsOf([2, 3, 4, [83, 64], 84]),
  },
  { name: 'PASIDs', options: FULL, gone: bitsOf([2, 4, [83, 64], 84]) },
  { name: 'PASIDs, device TLBs', options: { ...FULL, 'device-iotlb': true }, gone: bitsOf([4, [83, 64], 84]) },
  { name: 'PASIDs, RID_PASID', options: { ...FULL, 'x-rps': true }, gone: bitsOf([2, 4, 84]) },
] as const;

for (const { name, options, gone } of CONTEXT_FIELDS) {
  everyBit(`3.4: scalable context entry (${name})`, {
    bytes: 32,
    reserved: union(
      gone,
      bitsOf([
        [8, 5],
        [63, 48],
        [127, 85],
        [255, 128],
      ]),
    ),
    meaningful: bitsOf([0, [47, 12], ...('x-rps' in options ? [[83, 64] as const] : [])]),
    reason: 0x42,
    make() {
      const full = 'nesting' in options ? {} : { fsptptr: 0 };
      const tables = scalableBench(options, full);
      return { tables, address: tables.context };
    },
  });
}

test('3.4: RID_PASID selects the entry (1 to 8191), and beyond the directory it is 0x43, one bit at a time', t => {
  for (let bit = 0; bit < 20; bit++) {
    const tables = scalableBench({ ...FULL, 'x-rps': true });
    tables.bench.flip(tables.context, 64 + bit);
    const expected = bit >= 13 ? 0x43 : bit < 6 ? 0x59 : 0x51;
    t.is(tables.bench.fault(IOVA), expected, `bit ${bit}`);
  }
});

everyBit('3.5: PASID directory entry: reserved are 11:2 and 63:48', {
  bytes: 8,
  reserved: bitsOf([
    [11, 2],
    [63, 48],
  ]),
  meaningful: bitsOf([0, [47, 12]]),
  reason: 0x52,
  make() {
    const tables = scalableBench();
    return { tables, address: tables.directory * 4096 };
  },
});

/** Reserved in every PASID entry of these units, which have no memory types and no execute requests. */
const ENTRY_ALWAYS = union(
  bitsOf([5, [11, 10]]),
  bitsOf(
    [
      [22, 16],
      [31, 25],
      [63, 32],
    ],
    64,
  ),
  bitsOf([1, [11, 8]], 128),
  bitsOf([[511, 192]]),
);

const ENTRY_VARIANTS: readonly { name: string; options: object; values: Values; gone: Bits; meaningful: Bits }[] = [
  {
    name: 'second stage, everything offered',
    options: { ...FULL, 'snoop-control': true },
    values: {},
    gone: [[63, 48]],
    meaningful: [0, [4, 2], [8, 6], 9, [47, 12]],
  },
  {
    name: 'second stage, nothing else offered',
    options: { 'x-scalable-mode': 'on' },
    values: { fsptptr: 0 },
    // No SSADE, PWSNP, PGSNP and no first stage: FSPM, WPE, EAFE and FSPTPTR.
    gone: [[63, 48], 9, 64 + 23, 64 + 24, [131, 130], 132, 135, [191, 140]],
    meaningful: [0, [4, 2], [8, 6], [47, 12]],
  },
  {
    name: 'first stage, everything offered',
    options: { ...FULL, 'snoop-control': true },
    values: { pgtt: 1 },
    gone: [[191, 176]],
    meaningful: [0, [8, 6], [131, 130], [175, 140]],
  },
  {
    name: 'first stage, no second one offered',
    options: { 'x-scalable-mode': 'on', 'x-flts': true, 'x-smpwcs': true },
    values: { pgtt: 1, aw: 0, ssptptr: 0 },
    // Without SSTS: AW, SSADE, SSPTPTR; without SC, EAFS and SRS: PGSNP, EAFE and SRE.
    gone: [[4, 2], 9, [63, 12], 64 + 24, 128, 135, [191, 176]],
    meaningful: [0, [8, 6], [131, 130], [175, 140]],
  },
  {
    name: 'nested, everything offered',
    options: { ...FULL, 'snoop-control': true },
    values: { pgtt: 3 },
    gone: [
      [63, 48],
      [191, 176],
    ],
    meaningful: [0, [4, 2], [8, 6], 9, [47, 12], [131, 130], [175, 140]],
  },
  {
    name: 'pass-through, everything offered',
    options: { ...FULL, 'snoop-control': true },
    values: { pgtt: 4 },
    gone: [],
    meaningful: [0, [8, 6]],
  },
  {
    name: 'pass-through, first stage only',
    options: { 'x-scalable-mode': 'on', 'x-flts': true },
    values: { pgtt: 4, aw: 0, ssptptr: 0 },
    gone: [[4, 2], 9, [63, 12], 64 + 23, 64 + 24, 128, 135],
    meaningful: [0, [8, 6]],
  },
];

for (const { name, options, values, gone, meaningful } of ENTRY_VARIANTS) {
  everyBit(`3.6: PASID entry: ${name}`, {
    bytes: 64,
    reserved: union(ENTRY_ALWAYS, bitsOf(gone)),
    meaningful: bitsOf(meaningful),
    reason: 0x5a,
    make() {
      const tables = scalableBench(options, values);
      return { tables, address: tables.entry };
    },
  });
}

test('3, common rules: an entry with P = 0 and every other bit set is not present, and nothing else', t => {
  const legacy = legacyBench();
  legacy.bench.put64(legacy.context, ALL & ~3n);
  legacy.bench.put64(legacy.context + 8, ALL);
  t.is(legacy.bench.fault(IOVA), 0x02);
  legacy.bench.put64(legacy.rootEntry, ALL & ~1n);
  legacy.bench.put64(legacy.rootEntry + 8, ALL);
  t.is(legacy.bench.fault(IOVA), 0x01);

  const { bench, rootEntry, context, directory, entry } = scalableBench();
  for (let at = 0; at < 64; at += 8) bench.put64(entry + at, at === 0 ? ALL & ~3n : ALL);
  t.is(bench.fault(IOVA), 0x59);
  bench.put64(directory * 4096, ALL & ~3n);
  t.is(bench.fault(IOVA), 0x51);
  bench.command(0x4000_0000);
  for (let at = 0; at < 32; at += 8) bench.put64(context + at, at === 0 ? ALL & ~3n : ALL);
  t.is(bench.fault(IOVA), 0x41);
  bench.put64(rootEntry, ALL & ~1n);
  bench.put64(rootEntry + 8, ALL & ~1n);
  t.is(bench.fault(IOVA), 0x39);
});

test('3.6: effective FPD is that of context, directory and entry together, one of them with P = 0 too', t => {
  for (let places = 1; places < 8; places++) {
    const { bench, context, directory, entry } = scalableBench(FULL, { p: 0 });
    for (const [i, address] of [context, directory * 4096, entry].entries()) {
      if ((places >>> i) & 1) bench.put64(address, bench.get64(address) | 2n);
    }
    t.is(bench.fault(IOVA), 0x59);
    t.deepEqual([bench.offered, bench.suppressed], [[], [0x59]], `places ${places.toString(2)}`);
  }
});

test('3.5: a directory of several pages: the last entry of every size is used', t => {
  for (let pdts = 0; pdts < 8; pdts++) {
    const { bench, context } = scalableBench(FULL, {}, { paside: 1, pdts });
    const pages = bench.page(32);
    bench.put64(context, (bench.get64(context) & 0xfffn) | BigInt(pages * 4096));
    const last = 2 ** (pdts + 13) - 1;
    const table = bench.page();
    bench.put64(pages * 4096 + (last >>> 6) * 8, BigInt(table * 4096) | 1n);
    bench.put64(table * 4096 + (last & 63) * 64, 0x101n);
    t.like(bench.request(IOVA, Access.READ, last), { to: 0x5000 }, `pdts ${pdts}`);
  }
});
