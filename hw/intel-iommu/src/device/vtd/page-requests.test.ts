/** vtd.md 1.11, 5.1, 5.5, 5.7, 5.9, 7.2 and 14 with page requests on: registers bit by bit, descriptors by the reference's masks, the entry. */
import { Access, NO_PASID } from '@remora/core';
import test from 'ava';
import { ATS, FakeFunction, functions } from '../ats-bench.test.helper.js';
import { Bench, RID, scalableBench } from '../bench.test.helper.js';

const RESERVED_FIELD = 4;
const INVALID_TYPE = 3;

test('1.2, 1.11: page request registers: reset values and writable bits, each bit alone, with and without EIM and PRS', t => {
  for (const [svm, eim] of [
    [false, true],
    [true, false],
    [true, true],
  ] as const) {
    const bench = new Bench({ ...ATS, svm, intremap: true, eim });
    const rows: readonly (readonly [name: string, offset: number, bits: 32 | 64, reset: bigint, writable: bigint])[] = [
      ['PQH', 0xc0, 64, 0n, 0x7_ffe0n],
      ['PQT', 0xc8, 64, 0n, 0x7_ffe0n],
      ['PQA', 0xd0, 64, 0n, 0xffff_ffff_ffff_f007n],
      ['PRS', 0xdc, 32, 0n, 0n],
      ['PECTL', 0xe0, 32, 0x8000_0000n, 0x8000_0000n],
      ['PEADDR', 0xe8, 32, 0n, 0xffff_fffcn],
      ['PEUADDR', 0xec, 32, 0n, eim ? 0xffff_ffffn : 0n],
    ];
    for (const [name, offset, bits, reset, mask] of rows) {
      const read = (): bigint => (bits === 64 ? bench.read64(offset) : BigInt(bench.read32(offset)));
      const write = (value: bigint): void =>
        bits === 64 ? bench.write64(offset, value) : bench.write32(offset, Number(value));
      const writable = svm ? mask : 0n;
      t.is(read(), svm ? reset : 0n, `${name}: reset`);
      for (let bit = 0n; bit < bits; bit++) {
        write(1n << bit);
        t.is(read(), writable & (1n << bit), `${name}: bit ${bit}`);
      }
    }
  }
});

test('1.1 rule 6: PRS: PPR and PRO are cleared by their own 1 only', t => {
  const bench = new Bench(ATS);
  bench.unit.registers.set(0xdc, 3);
  for (const [value, left] of [
    [0, 3],
    [0xffff_fffc, 3],
    [1, 2],
    [2, 0],
  ] as const) {
    bench.write32(0xdc, value);
    t.is(bench.read32(0xdc), left);
  }
});

function benchFor(options: object, endpoint = new FakeFunction()): Bench {
  const bench = new Bench({ ...ATS, intremap: true, ...options }, undefined, functions({ [RID]: endpoint }));
  bench.setRoot(bench.page(), 1);
  bench.enableQueue(true);
  return bench;
}

/** Submits; returns IQEI, or -1 if it was executed. The queue goes on either way. */
function outcome(bench: Bench, quads: readonly bigint[]): number {
  const words = [0, 1, 2, 3].flatMap(i => {
    const quad = quads[i] ?? 0n;
    return [Number(BigInt.asIntN(32, quad)), Number(BigInt.asIntN(32, quad >> 32n))];
  });
  if (bench.submitWords(Int32Array.from(words))) return -1;
  const error = Number(bench.read64(0xb0) & 0xfn);
  bench.recover();
  return error;
}

/** Reserved bits of the first two quadwords, and the fields beside the type. */
const DESCRIPTORS: readonly (readonly [
  title: string,
  options: object,
  words: readonly [bigint, bigint],
  reserved: readonly [bigint, bigint],
])[] = [
  ['5.9: page group response', {}, [0x9n | (BigInt(RID) << 16n), 0n], [0xfff0_0000_0000_01e0n, 0xffff_ffff_ffff_f003n]],
  ['5.7: wait, with PDS', {}, [0x45n, 0n], [0xffff_f100n, 3n]],
  ['5.7: wait, without PDS', { 'x-pds': false }, [0x45n, 0n], [0xffff_f180n, 3n]],
  ['5.5: device TLB, with DIT', { 'x-dit': true }, [0x3n | (BigInt(RID) << 32n), 0n], [0x000f_0000_ffe0_01f0n, 0xffen]],
  ['5.5: PASID device TLB, with DIT', { 'x-dit': true }, [0x8n | (BigInt(RID) << 16n), 0n], [0n, 0x7fen]],
];

for (const [title, options, words, reserved] of DESCRIPTORS) {
  test(`${title}: each reserved bit alone is IQEI 4, every other bit is a field`, t => {
    const bench = benchFor(options);
    t.is(outcome(bench, words), -1);
    for (let bit = 0; bit < 256; bit++) {
      const [at, mask] = [bit >>> 6, 1n << BigInt(bit & 63)];
      if (at === 0 && (mask & 0xe0fn) !== 0n) continue;
      // To a function that is not there an invalidation would time out.
      const requester = (words[0] & 0xfn) === 3n ? 0xffffn << 32n : 0xffff_0000n;
      if (at === 0 && (words[0] & 0xfn) !== 5n && (mask & requester) !== 0n) continue;
      const changed = [...words, 0n, 0n];
      changed[at]! ^= mask;
      const isReserved = at > 1 || (reserved[at]! & mask) !== 0n;
      t.is(outcome(bench, changed), isReserved ? RESERVED_FIELD : -1, `bit ${bit}`);
    }
  });
}

test('5.1 rule 4: type 9 needs ECAP.PRS and scalable mode', t => {
  const words = [0x9n | (BigInt(RID) << 16n)];
  t.is(outcome(benchFor({}), words), -1);
  t.is(outcome(benchFor({ svm: false }), words), INVALID_TYPE);
  const legacy = new Bench(ATS);
  legacy.setRoot(legacy.page(), 0);
  legacy.enableQueue(true);
  t.is(outcome(legacy, words), INVALID_TYPE);
});

test('14: page group response: success, RID 0x0100, PASID 5, PRGI 3', t => {
  const endpoint = new FakeFunction();
  const bench = new Bench(ATS, undefined, functions({ 0x100: endpoint }));
  bench.setRoot(bench.page(), 1);
  bench.enableQueue(true);
  t.is(outcome(bench, [0x0000_0005_0100_0019n, 0x18n]), -1);
  t.deepEqual(endpoint.responses, [[5, 3, 0]]);
});

/** The quadwords that a request leaves in the queue. */
function entryOf(rid: number, pasid: number, address: number, access: number, group: number, last: boolean): bigint[] {
  const { bench, rootEntry, context } = scalableBench(ATS, {}, { dte: 1, paside: 1, pre: 1 });
  const contexts = Number(bench.get64(rootEntry) & ~0xfffn);
  for (let at = 0; at < 32; at += 8) bench.put64(contexts + (rid & 0x7f) * 32 + at, bench.get64(context + at));
  const queue = bench.page() * 4096;
  bench.write64(0xd0, BigInt(queue));
  const taken = bench.unit.pageRequest({ requesterId: rid, pasid, hi: 0, lo: address, access, group, last });
  if (!taken) throw new Error('the request was refused');
  return [0, 8, 16, 24].map(at => bench.get64(queue + at));
}

test('14: PRQ entry: RID 0x0100, PASID 5, PRGI 3, last, R + W, address 0x7F0000', t => {
  t.deepEqual(entryOf(0x100, 5, 0x7f_0000, Access.READ_WRITE, 3, true), [0x0000_0005_0100_0101n, 0x7f_001fn, 0n, 0n]);
});

test('7.2: every field of an entry by itself', t => {
  const { READ, WRITE, EXECUTE, PRIVILEGED } = Access;
  const plain = entryOf(0x100, NO_PASID, 0, 0, 0, true);
  t.deepEqual(plain, [0x0100_0001n, 4n, 0n, 0n], 'type 1, RID, LPIG');
  t.deepEqual(entryOf(0x100, NO_PASID, 0, 0, 0, false)[1], 0n);
  t.deepEqual(entryOf(0x100, NO_PASID, 0, READ, 0, true)[1], 5n);
  t.deepEqual(entryOf(0x100, NO_PASID, 0, WRITE, 0, true)[1], 6n);
  for (let bit = 0; bit < 9; bit++)
    t.is(entryOf(0x100, NO_PASID, 0, 0, 2 ** bit, true)[1], 4n | (1n << BigInt(bit + 3)));
  for (let bit = 12; bit < 31; bit++) t.is(entryOf(0x100, NO_PASID, 2 ** bit, 0, 0, true)[1], 4n | (1n << BigInt(bit)));
  for (let bit = 0; bit < 13; bit++) {
    t.is(entryOf(0x100, 2 ** bit, 0, READ, 0, true)[0], 0x0100_0101n | (1n << BigInt(bit + 32)));
  }
  t.is(entryOf(0x100, 5, 0, READ | EXECUTE, 0, true)[0], 0x0010_0005_0100_0101n);
  t.is(entryOf(0x100, 5, 0, READ | PRIVILEGED, 0, true)[0], 0x0020_0005_0100_0101n);
  t.is(
    entryOf(0x100, NO_PASID, 0, READ | EXECUTE | PRIVILEGED, 0, true)[0],
    0x0100_0001n,
    'nothing of these without a PASID',
  );
});
