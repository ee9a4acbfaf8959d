/**
 * vtd.md 3.7, 3.8, 4.5 and 4.6, checklist 13.3: every bit of every paging entry, one at a time and at each level, for each width;
 * and permissions as the AND of all levels. Bit numbers are the reference's.
 */
import { Access } from '@remora/core';
import test from 'ava';
import { type Bench, FULL, legacyBench, scalableBench } from '../bench.test.helper.js';

const { READ, WRITE, READ_WRITE, EXECUTE, PRIVILEGED } = Access;
const ALL = READ_WRITE | EXECUTE;
/** Its page is at index 5, 1, 1, 0 ... of the tables, so that neighbours are empty. */
const IOVA = 0x4020_5000n;
const RW = 3n;
/** P, R/W, U/S, A, D. */
const PTE = 0x67n;
const PS = 0x80n;

/** Addresses of the entries from the top to `level`. */
function path(bench: Bench, root: number, levels: number, level: number): Map<number, number> {
  const found = new Map<number, number>();
  let table = root;
  for (let at = levels; at >= level; at--) {
    const address = table * 4096 + Number((IOVA >> BigInt(3 + 9 * at)) & 511n) * 8;
    found.set(at, address);
    table = Number((bench.get64(address) >> 12n) & 0xff_ffff_ffffn);
  }
  return found;
}

/** Whether bit `bit` of an entry is reserved: vtd.md 3.7 and 3.8. */
function isReserved(
  stage: 'first' | 'second',
  leaf: boolean,
  level: number,
  bit: number,
  haw: number,
  snoop: boolean,
): boolean {
  if (bit >= haw && bit <= 51) return true;
  if (bit === 7) return level >= 4;
  if (stage === 'second') {
    if (bit === 62) return true;
    if (bit === 11) return !leaf || !snoop;
    return leaf && bit >= 12 && bit < 3 + 9 * level;
  }
  return leaf && level > 1 && bit >= 13 && bit < 3 + 9 * level;
}

/** Bits that mean something else than "reserved" or "ignored". */
function isMeaningful(stage: 'first' | 'second', leaf: boolean, level: number, bit: number, haw: number): boolean {
  if (stage === 'second' ? bit < 2 : bit < 3 || bit === 5 || bit === 6) return true;
  if (bit === 7) return level === 2 || level === 3;
  const frame = leaf && level > 1 ? 3 + 9 * level : 12;
  return bit >= frame && bit < haw;
}

interface Unit {
  readonly name: string;
  readonly stage: 'first' | 'second';
  readonly levels: number;
  readonly haw: number;
  readonly reason: number;
  readonly snoop?: boolean;
  make(): { readonly bench: Bench; readonly root: number };
}

const legacyUnit = (width: 39 | 48 | 57, levels: number, options: object = {}): Unit => ({
  name: `second stage, legacy, ${levels} levels of ${width} bits${'snoop-control' in options ? ', SC' : ''}`,
  stage: 'second',
  levels,
  haw: Math.min(width, 52),
  reason: 0x0c,
  snoop: 'snoop-control' in options,
  make() {
    const { bench, second } = legacyBench({ 'aw-bits': width, ...options }, {}, levels);
    return { bench, root: second };
  },
});

const UNITS: readonly Unit[] = [
  legacyUnit(39, 3),
  legacyUnit(48, 4),
  legacyUnit(57, 5),
  legacyUnit(48, 4, { 'snoop-control': true }),
  {
    name: 'second stage, scalable, 4 levels',
    stage: 'second',
    levels: 4,
    haw: 48,
    reason: 0x7a,
    make() {
      const { bench, second } = scalableBench();
      return { bench, root: second };
    },
  },
  ...[4, 5].map((levels): Unit => ({
    name: `first stage, ${levels} levels`,
    stage: 'first',
    levels,
    haw: levels === 5 ? 52 : 48,
    reason: 0x72,
    make() {
      const options = { ...FULL, 'aw-bits': levels === 5 ? (57 as const) : (48 as const) };
      const { bench, first } = scalableBench(options, { pgtt: 1, fspm: levels - 4 });
      return { bench, root: first };
    },
  })),
];

for (const { name, stage, levels, haw, reason, snoop = false, make } of UNITS) {
  for (const leafLevel of [1, 2, 3]) {
    test(`${stage === 'second' ? '3.7' : '3.8'}: ${name}, leaf at ${leafLevel}: each bit at each level`, t => {
      const link = stage === 'second' ? RW : PTE;
      const leafBits = link | (leafLevel > 1 ? PS : 0n) | 0x1_4000_0000n;
      for (let at = levels; at >= leafLevel; at--) {
        const leaf = at === leafLevel;
        for (let bit = 0; bit < 64; bit++) {
          if (isMeaningful(stage, leaf, at, bit, haw)) continue;
          const { bench, root } = make();
          bench.mapAt(root, levels, IOVA, leafBits, link, leafLevel);
          const address = path(bench, root, levels, leafLevel).get(at)!;
          bench.flip(address, bit);
          const expected = isReserved(stage, leaf, at, bit, haw, snoop) ? reason : 0;
          t.is(bench.fault(IOVA), expected, `level ${at}, bit ${bit}`);
        }
      }
    });
  }

  test(`4.5, 4.6: ${name}: an entry that is not present, with every other bit set, is that only, at each level`, t => {
    const link = stage === 'second' ? RW : PTE;
    for (let at = levels; at >= 1; at--) {
      const { bench, root } = make();
      bench.mapAt(root, levels, IOVA, 0x9000n | link, link);
      bench.put64(path(bench, root, levels, 1).get(at)!, 0xffff_ffff_ffff_ffffn & (stage === 'second' ? ~3n : ~1n));
      t.is(bench.fault(IOVA), stage === 'first' ? 0x71 : reason === 0x0c ? 0x06 : 0x79, `level ${at}`);
    }
  });

  test(`4.5, 4.6: ${name}: a table that cannot be read, at each level`, t => {
    const link = stage === 'second' ? RW : PTE;
    for (let at = levels; at > 1; at--) {
      const { bench, root } = make();
      bench.mapAt(root, levels, IOVA, 0x9000n | link, link);
      const address = path(bench, root, levels, 1).get(at)!;
      bench.put64(address, (bench.get64(address) & 0xfffn) | 0x3_0000_0000n);
      t.is(bench.fault(IOVA), stage === 'first' ? 0x70 : reason === 0x0c ? 0x07 : 0x78, `level ${at}`);
    }
  });

  test(`3.7, 3.8: ${name}: each level is indexed by its own nine bits`, t => {
    const link = stage === 'second' ? RW : PTE;
    const { bench, root } = make();
    bench.mapAt(root, levels, IOVA, 0x9000n | link, link);
    t.like(bench.request(IOVA), { to: 0x9000, shift: 12 });
    const notPresent = stage === 'first' ? 0x71 : reason === 0x0c ? 0x06 : 0x79;
    for (let bit = 12n; bit < 12n + 9n * BigInt(levels) - (stage === 'first' ? 1n : 0n); bit++) {
      t.is(bench.fault(IOVA ^ (1n << bit)), notPresent, `bit ${bit}`);
    }
  });
}

test('3.7, 4.5 step 2: R and W are the AND over all levels: every combination of what each level grants', t => {
  for (const scalable of [false, true]) {
    for (let rights = 0; rights < 4 ** 4; rights++) {
      const { bench, second } = scalable ? scalableBench() : legacyBench();
      bench.mapAt(second, 4, IOVA, 0x9003n, RW);
      let granted = 3;
      let missing = false;
      for (const [at, address] of path(bench, second, 4, 1)) {
        const mine = (rights >>> (2 * (at - 1))) & 3;
        bench.put64(address, (bench.get64(address) & ~3n) | BigInt(mine));
        granted &= mine;
        missing ||= granted === 0;
      }
      const [read, write] = [bench.fault(IOVA, READ), bench.fault(IOVA, WRITE)];
      const reasons = scalable ? (missing ? [0x79, 0x79] : [0x86, 0x85]) : [0x06, 0x05];
      t.is(read, granted & 1 ? 0 : reasons[0]!, `read, ${rights.toString(4)}`);
      t.is(write, granted & 2 ? 0 : reasons[1]!, `write, ${rights.toString(4)}`);
    }
  }
});

test('4.6.1 step 3: R/W, U/S and XD over the whole path, for each kind of request', t => {
  const kinds = [READ, WRITE, READ_WRITE, READ | EXECUTE, WRITE | EXECUTE].flatMap(kind => [kind, kind | PRIVILEGED]);
  for (const wpe of [0, 1]) {
    for (let at = 1; at <= 4; at++) {
      for (const [cleared, set] of [
        [2n, 0n],
        [4n, 0n],
        [6n, 0n],
        [0n, 1n << 63n],
        [6n, 1n << 63n],
      ] as const) {
        for (const access of kinds) {
          const { bench, first } = scalableBench(FULL, { pgtt: 1, sre: 1, wpe }, { paside: 1 });
          bench.mapAt(first, 4, IOVA, 0x9000n | PTE, PTE);
          const address = path(bench, first, 4, 1).get(at)!;
          bench.put64(address, (bench.get64(address) & ~cleared) | set);
          const user = (access & PRIVILEGED) === 0;
          const writes = (access & WRITE) !== 0 && (user || wpe === 1);
          const expected =
            user && (cleared & 4n) !== 0n
              ? 0x81
              : writes && (cleared & 2n) !== 0n
                ? 0x85
                : (access & EXECUTE) !== 0 && set !== 0n
                  ? 0x82
                  : 0;
          t.is(bench.fault(IOVA, access, 0), expected, `level ${at}, access ${access}, WPE ${wpe}`);
        }
      }
    }
  }
});

test('4.5: input widths: the last address inside and the first beyond, for every AW that a unit offers', t => {
  for (const [width, levels] of [
    [39, 3],
    [48, 3],
    [48, 4],
    [57, 3],
    [57, 4],
    [57, 5],
  ] as const) {
    const bits = BigInt(12 + 9 * levels);
    const { bench } = legacyBench({ 'aw-bits': width }, {}, levels);
    t.is(bench.fault((1n << bits) - 1n), 0x06, `${width}, ${levels} levels`);
    for (let bit = bits; bit < 64n; bit++) t.is(bench.fault(1n << bit), 0x04, `${width}, ${levels} levels, bit ${bit}`);
    const scalable = scalableBench({ ...FULL, 'aw-bits': width }, { aw: levels - 2 });
    t.is(scalable.bench.fault((1n << bits) - 1n), 0x79);
    for (let bit = bits; bit < 64n; bit++) t.is(scalable.bench.fault(1n << bit), 0x84, `bit ${bit}`);
  }
});

test('4.6.1 step 1: canonical addresses: each bit above the sign bit alone', t => {
  for (const levels of [4, 5]) {
    const sign = BigInt(11 + 9 * levels);
    const { bench } = scalableBench({ ...FULL, 'aw-bits': 57 }, { pgtt: 1, fspm: levels - 4 });
    for (let bit = sign + 1n; bit < 64n; bit++) {
      t.is(bench.fault(1n << bit), 0x80, `bit ${bit}`);
      t.is(
        bench.fault(((0xffff_ffff_ffff_f000n - (1n << sign)) ^ (1n << bit)) | (1n << sign)),
        0x80,
        `bit ${bit} clear`,
      );
    }
    t.is(bench.fault((1n << sign) - 1n), 0x71);
    t.is(bench.fault(0xffff_ffff_ffff_f000n), 0x71);
  }
});

test('4.7, 4.2 step 4: outputs around the interrupt range, and its aliases above 4 GiB', t => {
  const cases: readonly (readonly [bigint, boolean])[] = [
    [0xfedf_f000n, false],
    [0xfee0_0000n, true],
    [0xfeef_f000n, true],
    [0xfef0_0000n, false],
    [0x1_fee0_0000n, false],
    [0x7e_fee0_0000n, false],
  ];
  for (const [output, refused] of cases) {
    const legacy = legacyBench();
    legacy.bench.mapAt(legacy.second, 4, IOVA, output | RW, RW);
    t.is(legacy.bench.fault(IOVA), refused ? 0x0e : 0, output.toString(16));
    const first = scalableBench(FULL, { pgtt: 1 });
    first.bench.mapAt(first.first, 4, IOVA, output | PTE, PTE);
    t.is(first.bench.fault(IOVA), refused ? 0x87 : 0);
    const second = scalableBench();
    second.bench.mapAt(second.second, 4, IOVA, output | RW, RW);
    t.is(second.bench.fault(IOVA), refused ? 0x87 : 0);
  }
});

/** vtd.md 4.7 marks the reason for reads of the range UNCONFIRMED: it is this one here, and only here. */
const READ_OF_INTERRUPT_RANGE = { legacy: 0x0e, scalable: 0x87 } as const;

test('4.7: requests to the interrupt range itself, without and with a PASID', t => {
  const legacy = legacyBench().bench;
  const { bench, second } = scalableBench(FULL, {}, { paside: 1 });
  bench.mapAt(second, 4, 0xfee0_1000n, 0x9003n, RW);
  for (const address of [0xfee0_1000n, 0xfee0_1ffcn]) {
    t.deepEqual(legacy.request(address, WRITE), { to: 0xfee0_1000, shift: 12, access: ALL }, 'an interrupt request');
    t.deepEqual(bench.request(address, WRITE), { to: 0xfee0_1000, shift: 12, access: ALL });
    t.is(legacy.fault(address, READ), READ_OF_INTERRUPT_RANGE.legacy);
    t.is(bench.fault(address, READ), READ_OF_INTERRUPT_RANGE.scalable);
    t.like(bench.request(address, WRITE, 0), { to: 0x9000 }, 'translated like any other address');
    t.like(bench.request(address, READ, 0), { to: 0x9000 });
  }
});

test('4.5 step 5: ZLR is not offered: a zero-length read needs R', t => {
  for (const [leaf, expected] of [
    [1n, 0],
    [2n, 0x06],
    [3n, 0],
  ] as const) {
    const { bench, second } = legacyBench();
    bench.mapAt(second, 4, IOVA, 0x9000n | leaf, RW);
    t.is(bench.fault(IOVA, Access.NONE), expected);
  }
});

test('4.5: a second stage knows no privilege: R and W are the same for privileged requests, walked and cached', t => {
  for (const [leaf, granted] of [
    [3n, ALL],
    [1n, READ | EXECUTE],
    [2n, WRITE],
  ] as const) {
    const { bench, second } = scalableBench(FULL, { sre: 1 }, { paside: 1 });
    bench.mapAt(second, 4, IOVA, 0x9000n | leaf, RW);
    const access = granted & READ ? READ : WRITE;
    for (const attribute of [0, PRIVILEGED, 0, PRIVILEGED]) {
      t.deepEqual(bench.request(IOVA, access | attribute, 0), { to: 0x9000, shift: 12, access: granted });
    }
    t.is(bench.fault(IOVA, WRITE | PRIVILEGED, 0), granted & WRITE ? 0 : 0x85);
  }
});

test('4.7: with a PASID the interrupt range is ordinary input, and a page around it is answered whole; without, page by page', t => {
  const { bench, second } = scalableBench(FULL, {}, { paside: 1 });
  bench.mapAt(second, 4, 0xc000_0000n, 0x8000_0083n, RW, 3);
  t.deepEqual(bench.request(0xfedf_f000n, READ, 0), { to: 0x8000_0000, shift: 30, access: ALL });
  t.deepEqual(bench.request(0xfee0_0000n, READ, 0), { to: 0x8000_0000, shift: 30, access: ALL });
  t.deepEqual(bench.request(0xfedf_f000n, READ), { to: 0xbedf_f000, shift: 12, access: ALL });
});
