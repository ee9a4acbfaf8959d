/**
 * vtd.md 5.11, checklist 13.8: what a command removes, among entries of two domains, two PASIDs, two devices and each kind at once.
 * Everything was used and then taken away in memory, so that what still answers was cached: exactly the set of the table's row is gone.
 */
import { Access } from '@remora/core';
import test from 'ava';
import { type Bench, FULL, legacyBench, RID, scalableBench } from '../bench.test.helper.js';

const PTE = 0x67n;
/** Domains of what was cached. */
const ONE = 1;
const TWO = 2;
/** In every mapping: two pages, and a page of 2 MiB; far from the memory that nested tables are in. */
const BASE = 0x40_0000_0000n;
const PAGES = { near: BASE + 0x5000n, far: BASE + 0x9000n, large: BASE + 0x20_0000n } as const;

interface Subject {
  readonly name: string;
  readonly kind: 'first' | 'second' | 'nested' | 'pass-through';
  readonly did: number;
  readonly pasid: number;
}

const SUBJECTS: readonly Subject[] = [
  { name: 'FS 1:4', kind: 'first', did: ONE, pasid: 4 },
  { name: 'FS 1:5', kind: 'first', did: ONE, pasid: 5 },
  { name: 'FS 2:6', kind: 'first', did: TWO, pasid: 6 },
  { name: 'SS 1', kind: 'second', did: ONE, pasid: 7 },
  { name: 'SS 2', kind: 'second', did: TWO, pasid: 8 },
  { name: 'N 1:9', kind: 'nested', did: ONE, pasid: 9 },
  { name: 'PT 1', kind: 'pass-through', did: ONE, pasid: 10 },
];

const PGTT = { first: 1, second: 2, nested: 3, 'pass-through': 4 } as const;

/** What answers of each subject after a command, as `name page`. */
function survivors(low: bigint, high: bigint): string[] {
  const { bench, entryOf } = scalableBench(FULL, {}, { paside: 1 });
  const leaves: number[] = [];
  // Section 9 rule 1: what has one domain has one second stage. Each shows memory as it is, for nested translations.
  const seconds = new Map([ONE, TWO].map(did => [did, bench.page()]));
  for (const second of seconds.values()) bench.mapAt(second, 4, 0n, 0x83n, 3n, 3);
  for (const { kind, did, pasid } of SUBJECTS) {
    const first = bench.page();
    const second = seconds.get(did)!;
    const at = entryOf(pasid);
    bench.put64(at, BigInt(second * 4096) | BigInt(PGTT[kind] << 6) | 0x9n);
    bench.put64(at + 8, BigInt(did));
    bench.put64(at + 16, BigInt(first * 4096));
    if (kind === 'pass-through') continue;
    const [root, bits] = kind === 'second' ? [second, 3n] : [first, PTE];
    for (const page of [PAGES.near, PAGES.far]) leaves.push(bench.mapAt(root, 4, page, 0x39_9000n | bits, bits));
    leaves.push(bench.mapAt(root, 4, PAGES.large, 0x40_0000n | bits | 0x80n, bits, 2));
  }
  const answering = (): string[] =>
    SUBJECTS.flatMap(({ name, kind, pasid }) =>
      Object.entries(PAGES)
        .filter(
          ([page, address]) =>
            (kind !== 'pass-through' || page === 'near') && bench.fault(address, Access.READ, pasid) === 0,
        )
        .map(([page]) => `${name} ${page}`),
    );
  const all = answering();
  for (const leaf of leaves) bench.put64(leaf, 0n);
  if (answering().length !== all.length) throw new Error('not everything was cached');
  bench.enableQueue(true);
  const words = [low, high].flatMap(each => [Number(BigInt.asIntN(32, each)), Number(BigInt.asIntN(32, each >> 32n))]);
  if (!bench.submitWords(Int32Array.from([...words, 0, 0, 0, 0]))) throw new Error('refused');
  return all.filter(each => !answering().includes(each));
}

const everyPage = (...names: readonly string[]): string[] =>
  SUBJECTS.filter(({ name }) => names.includes(name)).flatMap(({ name }) =>
    Object.keys(PAGES).map(page => `${name} ${page}`),
  );

const FIRST_OF_ONE = ['FS 1:4', 'FS 1:5', 'N 1:9'];
const IN_PASID_4 = 4n << 32n;

/** Command, descriptor, what is gone. Pass-through answers come from the PASID entry, which is not taken away here. */
const ROWS: readonly (readonly [name: string, low: bigint, high: bigint, gone: readonly string[]])[] = [
  ['CC global', 0x11n, 0n, []],
  ['CC device', 0x31n | (BigInt(RID) << 32n), 0n, []],
  ['PASID cache global', 0x37n, 0n, []],
  ['PASID cache domain', 0x07n | (1n << 16n), 0n, []],
  ['PASID cache PASID', 0x17n | (1n << 16n) | IN_PASID_4, 0n, []],
  ['IOTLB global', 0x12n, 0n, everyPage('FS 1:4', 'FS 1:5', 'FS 2:6', 'SS 1', 'SS 2', 'N 1:9')],
  ['IOTLB domain', 0x22n | (1n << 16n), 0n, everyPage(...FIRST_OF_ONE, 'SS 1')],
  ['IOTLB domain of nobody', 0x22n | (3n << 16n), 0n, []],
  ['IOTLB page', 0x32n | (1n << 16n), BASE + 0x5000n, [...everyPage(...FIRST_OF_ONE), 'SS 1 near']],
  ['IOTLB page, IH', 0x32n | (1n << 16n), BASE + 0x5040n, [...everyPage(...FIRST_OF_ONE), 'SS 1 near']],
  ['IOTLB page of nothing', 0x32n | (1n << 16n), BASE + 0x7000n, everyPage(...FIRST_OF_ONE)],
  ['IOTLB page in a large one', 0x32n | (2n << 16n), BASE + 0x2f_f000n, [...everyPage('FS 2:6'), 'SS 2 large']],
  [
    'IOTLB 16 pages, address not aligned',
    0x32n | (1n << 16n),
    BASE + 0xf004n,
    [...everyPage(...FIRST_OF_ONE), 'SS 1 near', 'SS 1 far'],
  ],
  ['PIOTLB PASID', 0x26n | (1n << 16n) | IN_PASID_4, 0n, everyPage('FS 1:4')],
  ['PIOTLB PASID of a nested one', 0x26n | (1n << 16n) | (9n << 32n), 0n, everyPage('N 1:9')],
  ['PIOTLB PASID, other domain', 0x26n | (2n << 16n) | IN_PASID_4, 0n, []],
  ['PIOTLB page', 0x36n | (1n << 16n) | IN_PASID_4, BASE + 0x9000n, ['FS 1:4 far']],
  ['PIOTLB page, IH', 0x36n | (1n << 16n) | IN_PASID_4, BASE + 0x9040n, ['FS 1:4 far']],
  ['PIOTLB 16 pages', 0x36n | (1n << 16n) | (9n << 32n), BASE + 0x4n, ['N 1:9 near', 'N 1:9 far']],
  ['PIOTLB page in a large one', 0x36n | (2n << 16n) | (6n << 32n), BASE + 0x3f_f000n, ['FS 2:6 large']],
  ['PIOTLB page of a second-stage PASID', 0x36n | (1n << 16n) | (7n << 32n), BASE + 0x5000n, []],
];

for (const [name, low, high, gone] of ROWS) {
  test(`5.11: ${name}: exactly the set of its row disappears`, t => {
    t.deepEqual(
      survivors(low, high),
      [...gone].sort((a, b) => order(a) - order(b)),
    );
  });
}

/** Position in the order of SUBJECTS and PAGES. */
function order(each: string): number {
  const subject = SUBJECTS.findIndex(({ name }) => each.startsWith(`${name} `));
  return subject * 3 + Object.keys(PAGES).indexOf(each.split(' ').at(-1)!);
}

/** A unit with two devices whose context entries, PASID entries and leaves were used and then taken away. */
function emptied(): { bench: Bench; reasons: () => number[] } {
  const { bench, context, second, entryOf } = scalableBench(FULL, {}, { paside: 1 });
  const leaf = bench.mapAt(second, 4, PAGES.near, 0x39_9003n, 3n);
  for (let at = 0; at < 32; at += 8) bench.put64(context + 32 + at, bench.get64(context + at));
  const reasons = (): number[] => [RID, RID + 1].map(rid => bench.fault(PAGES.near, Access.READ, -1, rid));
  reasons();
  for (const address of [context, context + 32, entryOf(0), leaf]) bench.put64(address, 0n);
  return { bench, reasons };
}

test('5.11: SRTP with ESRTPS removes all; each other command leaves the other columns', t => {
  const srtp = emptied();
  t.deepEqual(srtp.reasons(), [0, 0]);
  srtp.bench.command(0x4000_0000);
  t.deepEqual(srtp.reasons(), [0x41, 0x41]);

  const { bench, reasons } = emptied();
  bench.enableQueue(true);
  const submit = (...words: number[]): void =>
    void bench.submitWords(Int32Array.from([...words, 0, 0, 0, 0, 0, 0, 0]).slice(0, 8));
  submit(0x31, RID);
  t.deepEqual(reasons(), [0x41, 0], 'context: one device');
  const pasid = emptied();
  pasid.bench.enableQueue(true);
  pasid.bench.submitWords(Int32Array.of(0x37, 0, 0, 0, 0, 0, 0, 0));
  t.deepEqual(pasid.reasons(), [0x59, 0x59], 'PASID: the context entries are still there');
  const iotlb = emptied();
  iotlb.bench.enableQueue(true);
  iotlb.bench.submitWords(Int32Array.of(0x12, 0, 0, 0, 0, 0, 0, 0));
  t.deepEqual(iotlb.reasons(), [0x79, 0x79], 'IOTLB: context and PASID entries are still there');
});

test('9 rule 2: CM = 0: what was not present or faulted is met without any invalidation', t => {
  const { bench, second, context, rootEntry } = legacyBench();
  const [root, entry] = [bench.get64(rootEntry), bench.get64(context)];
  bench.put64(rootEntry, 0n);
  t.is(bench.fault(PAGES.near), 0x01);
  bench.put64(rootEntry, root);
  bench.put64(context, 0n);
  t.is(bench.fault(PAGES.near), 0x02);
  bench.put64(context, entry | 4n);
  t.is(bench.fault(PAGES.near), 0x03);
  bench.put64(context, entry);
  t.is(bench.fault(PAGES.near), 0x06);
  bench.mapAt(second, 4, PAGES.near, 0x9001n, 3n);
  t.is(bench.fault(PAGES.near, Access.WRITE), 0x05);
  bench.mapAt(second, 4, PAGES.near, 0x9003n, 3n);
  t.is(bench.fault(PAGES.near, Access.WRITE), 0);
});

test('9 rule 4: an entry without write permission is cached; a write walks again', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, PAGES.near, 0x9001n, 3n);
  t.like(bench.request(PAGES.near), { access: Access.READ | Access.EXECUTE });
  bench.mapAt(second, 4, PAGES.near, 0xa003n, 3n);
  t.like(bench.request(PAGES.near), { to: 0x9000 }, 'reads are served as before');
  t.like(bench.request(PAGES.near, Access.WRITE), { to: 0xa000 });
});

/** vtd.md 9 rule 5, UNCONFIRMED: what is cached keeps the FPD that it was read with. */
const CACHED_FPD_COUNTS = true;

test('9 rule 5: FPD of a cached entry is that of when it was read, until the entry is invalidated', t => {
  const { bench, entry } = scalableBench(FULL, { fpd: 1 });
  t.is(bench.fault(PAGES.near), 0x79);
  bench.put64(entry, bench.get64(entry) & ~2n);
  t.is(bench.fault(PAGES.near), 0x79);
  t.is(bench.suppressed.length, CACHED_FPD_COUNTS ? 2 : 1);
  bench.enableQueue(true);
  bench.submitWords(Int32Array.of(0x37, 0, 0, 0, 0, 0, 0, 0));
  t.is(bench.fault(PAGES.near), 0x79);
  t.deepEqual(bench.offered, [0x79]);
});

test('9: tags: two requesters with the same domain share what is cached of the second stage; other domains do not', t => {
  const { bench, context, second } = legacyBench();
  for (const [offset, domain] of [
    [16, 7n],
    [32, 8n],
  ] as const) {
    bench.put64(context + offset, bench.get64(context));
    bench.put64(context + offset + 8, 2n | (domain << 8n));
  }
  const leaf = bench.mapAt(second, 4, PAGES.near, 0x39_9003n, 3n);
  t.is(bench.fault(PAGES.near), 0);
  bench.put64(leaf, 0n);
  t.is(bench.fault(PAGES.near, Access.READ, -1, RID + 1), 0);
  t.is(bench.fault(PAGES.near, Access.READ, -1, RID + 2), 6);
});

test('9: what is cached of a supervisor page serves privileged requests, and no others', t => {
  const { bench, first } = scalableBench(FULL, { pgtt: 1, sre: 1 }, { paside: 1 });
  const leaf = bench.mapAt(first, 4, PAGES.near, 0x39_9063n, PTE);
  const privileged = Access.READ | Access.PRIVILEGED;
  t.is(bench.fault(PAGES.near, privileged, 0), 0);
  bench.put64(leaf, 0x39_a063n);
  t.like(bench.request(PAGES.near, privileged, 0), { to: 0x39_9000 });
  t.is(bench.fault(PAGES.near, Access.READ, 0), 0x81);
});
