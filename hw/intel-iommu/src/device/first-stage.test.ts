import { Access } from '@remora/core';
import test from 'ava';
import { Pgtt } from '../spec/index.js';
import { FULL, NOWHERE, scalableBench, type ScalableTables, type Values } from './bench.test.helper.js';

const ALL = Access.READ_WRITE | Access.EXECUTE;
/** P, R/W, U/S, A and D set: no update is ever due. */
const PTE = 0x67n;
const XD = 1n << 63n;
const PASID = 0;
const { READ, WRITE, EXECUTE, PRIVILEGED } = Access;

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

function firstStage(entry: Values = {}, options: object = FULL): ScalableTables {
  return scalableBench({ ...FULL, ...options }, { pgtt: Pgtt.FIRST_STAGE, ...entry }, { paside: 1 });
}

test('four and five levels, pages of 4 KiB, 2 MiB and 1 GiB; addresses are sign-extended', t => {
  for (const levels of [4, 5]) {
    for (const [level, shift] of [
      [1, 12],
      [2, 21],
      [3, 30],
    ] as const) {
      const { bench, first } = firstStage({ fspm: levels - 4 }, { 'aw-bits': 57 });
      const half = 1n << BigInt(11 + 9 * levels);
      for (const iova of [0x1f_ffff_f000n, (1n << 64n) - half + 0x4000_0000n]) {
        bench.mapAt(first, levels, iova, (1n << 40n) | PTE | (level > 1 ? 0x80n : 0n), PTE, level);
        t.deepEqual(bench.request(iova), { to: 2 ** 40, shift, access: ALL });
        t.deepEqual(bench.request(iova + 8n), { to: 2 ** 40, shift, access: ALL }, 'cached');
      }
      t.is(bench.fault(half), 0x80);
      t.is(bench.fault((1n << 64n) - half - 1n), 0x80);
    }
  }
});

test('0x71 not present, 0x73 root and 0x70 table not readable', t => {
  const { bench, first } = firstStage();
  bench.put64(first * 4096, 0xffff_ffff_ffff_fffen);
  t.is(bench.fault(0x5000), 0x71, 'reserved bits of an absent entry do not matter');
  bench.put64(first * 4096, BigInt(NOWHERE * 4096) | PTE);
  t.is(bench.fault(0x5000), 0x70);
  t.is(firstStage({ fsptptr: NOWHERE }).bench.fault(0x5000), 0x73);
});

test('0x72: each reserved bit by level; 1 GiB pages need FS1GP', t => {
  const high = range(48, 52);
  const cases: readonly (readonly [leafLevel: number, atLevel: number, bits: readonly number[]])[] = [
    [1, 1, high],
    [1, 2, high],
    [1, 3, high],
    [1, 4, [7, ...high]],
    [2, 2, [...range(13, 21), ...high]],
    [3, 3, [...range(13, 30), ...high]],
  ];
  for (const [leafLevel, atLevel, bits] of cases) {
    for (const bit of [...range(3, 13), ...range(13, 64)]) {
      if (bit >= 12 && bit < 48 && !bits.includes(bit) && !(bit === 12 && atLevel === leafLevel && leafLevel > 1))
        continue;
      if (bit === 5 || bit === 6 || (bit === 7 && (atLevel === 2 || atLevel === 3))) continue;
      const { bench, first } = firstStage();
      bench.mapAt(first, 4, 0x5000n, leafLevel > 1 ? 0x4000_00e7n : 0x9067n, PTE, leafLevel);
      let table = first;
      for (let at = 4; at > atLevel; at--) {
        table = Number(
          (bench.get64(table * 4096 + Number((0x5000n >> BigInt(3 + 9 * at)) & 0x1ffn) * 8) >> 12n) & 0xffffn,
        );
      }
      bench.flip(table * 4096 + Number((0x5000n >> BigInt(3 + 9 * atLevel)) & 0x1ffn) * 8, bit);
      t.is(bench.fault(0x5000), bits.includes(bit) ? 0x72 : 0, `leaf ${leafLevel} at ${atLevel} bit ${bit}`);
    }
  }
  const without = firstStage({}, { fs1gp: false });
  without.bench.mapAt(without.first, 4, 0x4000_0000n, 0x4000_00e7n, PTE, 3);
  t.is(without.bench.fault(0x4000_0000n), 0x72);
});

test('permissions over the whole path: 0x81 user, 0x85 write, 0x82 execute', t => {
  const outcome = (link: bigint, leaf: bigint, access: number, entry: Values = {}): number => {
    const { bench, first } = firstStage(entry);
    bench.mapAt(first, 4, 0x5000n, 0x9000n | leaf, link);
    return bench.fault(0x5000, access, PASID);
  };
  const supervisor = PTE & ~4n;
  const readOnly = PTE & ~2n;
  t.is(outcome(PTE, PTE, WRITE), 0);
  t.is(outcome(PTE, supervisor, READ), 0x81);
  t.is(outcome(supervisor, PTE, READ), 0x81);
  t.is(outcome(PTE, readOnly, READ), 0);
  t.is(outcome(PTE, readOnly, WRITE), 0x85);
  t.is(outcome(readOnly, PTE, WRITE), 0x85);
  t.is(outcome(PTE, supervisor & readOnly, WRITE), 0x81, 'the first in order');
  t.is(outcome(PTE, PTE | XD, READ), 0);
  t.is(outcome(PTE, PTE | XD, READ | EXECUTE), 0x82);
  t.is(outcome(PTE | XD, PTE, READ | EXECUTE), 0x82);
  t.is(outcome(PTE, PTE, READ | EXECUTE), 0);

  const sre = { sre: 1 };
  t.is(outcome(PTE, supervisor, READ | PRIVILEGED, sre), 0);
  t.is(outcome(PTE, readOnly, WRITE | PRIVILEGED, sre), 0, 'without WPE a supervisor writes everywhere');
  t.is(outcome(PTE, readOnly, WRITE | PRIVILEGED, { ...sre, wpe: 1 }), 0x85);
  t.is(outcome(PTE, PTE, READ | EXECUTE | PRIVILEGED, sre), 0, 'SMEP is ignored');
});

test('what a cached page grants depends on who asks', t => {
  const { bench, first } = firstStage({ sre: 1 });
  bench.mapAt(first, 4, 0x5000n, 0x9000n | (PTE & ~4n), PTE);
  bench.mapAt(first, 4, 0x6000n, 0xa000n | (PTE & ~2n) | XD, PTE);
  t.like(bench.request(0x5000, READ | PRIVILEGED, PASID), { to: 0x9000, access: ALL });
  t.is(bench.fault(0x5000, READ, PASID), 0x81);
  t.like(bench.request(0x6000, READ | PRIVILEGED, PASID), { access: Access.READ_WRITE });
  t.like(bench.request(0x6000, READ, PASID), { access: READ });
  t.is(bench.fault(0x6000, WRITE, PASID), 0x85);
  t.is(bench.fault(0x6000, READ | EXECUTE, PASID), 0x82);
});

test('0x87: an output in the interrupt range; with a PASID the address itself is ordinary', t => {
  const { bench, first } = firstStage();
  bench.mapAt(first, 4, 0x5000n, 0xfee0_0000n | PTE, PTE);
  bench.mapAt(first, 4, 0xfee0_0000n, 0x9000n | PTE, PTE);
  t.is(bench.fault(0x5000), 0x87);
  t.like(bench.request(0xfee0_0000, WRITE, PASID), { to: 0x9000 });
  t.like(bench.request(0xfee0_0000, WRITE), { to: 0xfee0_0000 });
});

test('PASIDs are apart: the same address of two PASIDs', t => {
  const { bench, first, entry, entryOf } = firstStage();
  const other = bench.page();
  bench.put64(entryOf(1), bench.get64(entry));
  bench.put64(entryOf(1) + 8, bench.get64(entry + 8));
  bench.put64(entryOf(1) + 16, BigInt(other * 4096));
  bench.mapAt(first, 4, 0x5000n, 0x9000n | PTE, PTE);
  bench.mapAt(other, 4, 0x5000n, 0xa000n | PTE, PTE);
  for (let round = 0; round < 2; round++) {
    t.like(bench.request(0x5000, READ, 0), { to: 0x9000 });
    t.like(bench.request(0x5000, READ, 1), { to: 0xa000 });
    t.like(bench.request(0x5000), { to: 0x9000 }, 'no PASID: RID_PASID, which is 0');
  }
});
