/** Accessed and dirty bits of both stages (vtd.md 3.9, checklist 13.7). */
import { Access } from '@remora/core';
import test from 'ava';
import { Pgtt } from '../spec/index.js';
import { FULL, scalableBench, type ScalableTables, type Values } from './bench.test.helper.js';

const SS = { A: 0x100n, D: 0x200n, RW: 3n, PS: 0x80n };
const FS = { P: 1n, RW: 2n, US: 4n, A: 0x20n, D: 0x40n, PS: 0x80n, EA: 0x400n };
const IOVA = 0x5000n;
const LEAVES = [
  [1, 0x9000n],
  [2, 0x40_0000n],
  [3, 0x4000_0000n],
] as const;

/** The entries on the way to IOVA from the top to `level`. */
function path(
  { bench }: ScalableTables,
  root: number,
  levels: number,
  level: number,
): { addresses: number[]; entries: bigint[] } {
  const addresses: number[] = [];
  let table = root;
  for (let at = levels; at >= level; at--) {
    const address = table * 4096 + Number((IOVA >> BigInt(3 + 9 * at)) & 0x1ffn) * 8;
    addresses.push(address);
    table = Number((bench.get64(address) >> 12n) & 0xff_ffff_ffffn);
  }
  return { addresses, entries: addresses.map(address => bench.get64(address)) };
}

function secondStage(entry: Values, options = FULL): ScalableTables {
  return scalableBench(options, { ssade: 1, pwsnp: 1, ...entry });
}

for (const levels of [3, 4]) {
  for (const [level, frame] of LEAVES) {
    test(`second stage: ${levels} levels, leaf at ${level}: read sets A, write sets A and D, nothing is written twice`, t => {
      for (const access of [Access.READ, Access.WRITE]) {
        for (const before of [0n, SS.A, SS.A | SS.D, SS.D]) {
          const tables = secondStage({ aw: levels - 2 });
          const { bench, second } = tables;
          const leaf = frame | SS.RW | (level > 1 ? SS.PS : 0n);
          bench.mapAt(second, levels, IOVA, leaf | before, SS.RW, level);
          t.is(bench.fault(IOVA, access), 0);
          const { entries } = path(tables, second, levels, level);
          const set = access === Access.WRITE ? SS.A | SS.D : SS.A;
          t.is(entries.at(-1), leaf | before | set);
          for (const entry of entries.slice(0, -1)) t.is(entry & (SS.A | SS.D), SS.A);
          t.is(bench.memory.stores.length, levels - level + ((before | set) === before ? 0 : 1));
          bench.memory.stores.length = 0;
          bench.setRoot(Number(bench.read64(0x20) >> 12n), 1);
          t.is(bench.fault(IOVA, access), 0);
          t.deepEqual(bench.memory.stores, []);
        }
      }
    });
  }
}

test('second stage: without SSADE nothing is written, nor looked at', t => {
  const { bench, second } = scalableBench(undefined, { pwsnp: 0 });
  bench.mapAt(second, 4, IOVA, 0x9000n | SS.RW, SS.RW);
  t.is(bench.fault(IOVA, Access.WRITE), 0);
  t.deepEqual(bench.memory.stores, []);
});

test('second stage: 0x7C if a bit is missing and the walk is not snooped; bits that are set need none', t => {
  const { bench, second } = secondStage({ pwsnp: 0 });
  bench.mapAt(second, 4, IOVA, 0x9000n | SS.RW | SS.A, SS.RW | SS.A);
  t.is(bench.fault(IOVA, Access.READ), 0);
  t.is(bench.fault(IOVA, Access.WRITE), 0x7c);
  bench.mapAt(second, 4, 0x40_0000_0000n, 0x9000n | SS.RW | SS.A, SS.RW);
  t.is(bench.fault(0x40_0000_0000n), 0x7c, 'a table');
});

test('second stage: 0x7D if the entry cannot be written; set bits work in read-only tables', t => {
  const tables = secondStage({});
  const { bench, second } = tables;
  bench.mapAt(second, 4, IOVA, 0x9000n | SS.RW | SS.A, SS.RW | SS.A);
  for (const address of path(tables, second, 4, 1).addresses) bench.memory.readOnly.add(Math.floor(address / 4096));
  t.is(bench.fault(IOVA, Access.READ), 0);
  t.is(bench.fault(IOVA, Access.WRITE), 0x7d);
});

test('second stage: a walk that fails leaves A in the tables above; the leaf is untouched', t => {
  for (const [leaf, access, reason] of [
    [0x9001n, Access.WRITE, 0x85],
    [0xfee0_0003n, Access.WRITE, 0x87],
    [0x9003n | (1n << 62n), Access.READ, 0x7a],
  ] as const) {
    const tables = secondStage({});
    const { bench, second } = tables;
    bench.mapAt(second, 4, IOVA, leaf, SS.RW);
    t.is(bench.fault(IOVA, access), reason);
    const { entries } = path(tables, second, 4, 1);
    t.deepEqual(
      entries.map(entry => entry & (SS.A | SS.D)),
      [SS.A, SS.A, SS.A, 0n],
    );
  }
});

test('a cached translation that was read does not hide that D is missing', t => {
  const tables = secondStage({});
  const { bench, second } = tables;
  bench.mapAt(second, 4, IOVA, 0x9000n | SS.RW, SS.RW);
  t.like(bench.request(IOVA, Access.READ), { access: Access.READ | Access.EXECUTE });
  t.like(bench.request(IOVA, Access.WRITE), { access: Access.READ_WRITE | Access.EXECUTE });
  t.is(path(tables, second, 4, 1).entries.at(-1), 0x9000n | SS.RW | SS.A | SS.D);

  const first = scalableBench(FULL, { pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 });
  first.bench.mapAt(first.first, 4, IOVA, 0x9007n, 7n);
  t.like(first.bench.request(IOVA, Access.READ), { access: Access.READ | Access.EXECUTE });
  t.is(first.bench.fault(IOVA, Access.WRITE), 0);
  t.is(path(first, first.first, 4, 1).entries.at(-1), 0x9007n | FS.A | FS.D);
});

for (const levels of [4, 5]) {
  for (const [level, frame] of LEAVES) {
    test(`first stage: ${levels} levels, leaf at ${level}: read sets A, write A and D, EAFE also EA`, t => {
      for (const access of [Access.READ, Access.WRITE]) {
        for (const eafe of [0, 1]) {
          for (const before of [0n, FS.A, FS.A | FS.D, FS.A | FS.D | FS.EA]) {
            const entry = { pgtt: Pgtt.FIRST_STAGE, pwsnp: 1, eafe, fspm: levels - 4 };
            const tables = scalableBench({ ...FULL, 'aw-bits': 57 }, entry);
            const { bench, first } = tables;
            const leaf = frame | 7n | (level > 1 ? FS.PS : 0n);
            bench.mapAt(first, levels, IOVA, leaf | before, 7n, level);
            t.is(bench.fault(IOVA, access), 0);
            const { entries } = path(tables, first, levels, level);
            const always = FS.A | (eafe ? FS.EA : 0n);
            t.is(entries.at(-1), leaf | before | always | (access === Access.WRITE ? FS.D : 0n));
            for (const each of entries.slice(0, -1)) t.is(each & (FS.A | FS.D | FS.EA), always);
            bench.memory.stores.length = 0;
            bench.setRoot(Number(bench.read64(0x20) >> 12n), 1);
            t.is(bench.fault(IOVA, access), 0);
            t.deepEqual(bench.memory.stores, []);
          }
        }
      }
    });
  }
}

test('first stage: 0x90 if a bit is missing and the walk is not snooped; preset bits need none', t => {
  const { bench, first } = scalableBench({ nesting: true }, { pgtt: Pgtt.FIRST_STAGE });
  bench.mapAt(first, 4, IOVA, 0x9007n | FS.A, 7n | FS.A);
  t.is(bench.fault(IOVA, Access.READ), 0);
  t.is(bench.fault(IOVA, Access.WRITE), 0x90);
});

test('first stage: 0x91 if the entry cannot be written', t => {
  const tables = scalableBench(FULL, { pgtt: Pgtt.FIRST_STAGE, pwsnp: 1 });
  const { bench, first } = tables;
  bench.memory.readOnly.add(first);
  bench.mapAt(first, 4, IOVA, 0x9007n, 7n);
  t.is(bench.fault(IOVA), 0x91);
});

test('compat=qemu-10.2: updates need no snooping; D is left clear if A was set', t => {
  const options = { 'x-scalable-mode': 'on', 'x-flts': true, compat: 'qemu-10.2' } as const;
  const tables = scalableBench(options, { pgtt: Pgtt.FIRST_STAGE });
  const { bench, first } = tables;
  bench.mapAt(first, 4, IOVA, 0x9007n, 7n);
  t.is(bench.fault(IOVA, Access.READ), 0);
  bench.setRoot(Number(bench.read64(0x20) >> 12n), 1);
  t.is(bench.fault(IOVA, Access.WRITE), 0);
  t.is(path(tables, first, 4, 1).entries.at(-1), 0x9007n | FS.A);
});
