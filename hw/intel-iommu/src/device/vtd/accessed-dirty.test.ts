/** vtd.md 3.9, checklist 13.7: {levels} x {leaf size} x {read, write} x {SSADE or not} x {initial A and D}, in memory. */
import { Access } from '@remora/core';
import test from 'ava';
import { FULL, legacyBench, type Bench, scalableBench, type Values } from '../bench.test.helper.js';
import { NESTED_IOVA, nestedTables } from './nested-tables.test.helper.js';

const { READ, WRITE, READ_WRITE } = Access;
const IOVA = 0x4020_5000n;
const SS = { A: 1n << 8n, D: 1n << 9n };
const FS = { A: 1n << 5n, D: 1n << 6n, EA: 1n << 10n };
/** Software's own bits of a second-stage entry, which must survive: 10, 61:52, 63. */
const SOFTWARE = (1n << 10n) | (0x2a5n << 52n) | (1n << 63n);

function entries(bench: Bench, root: number, levels: number, level: number): bigint[] {
  const found: bigint[] = [];
  let table = root;
  for (let at = levels; at >= level; at--) {
    const value = bench.get64(table * 4096 + Number((IOVA >> BigInt(3 + 9 * at)) & 511n) * 8);
    found.push(value);
    table = Number((value >> 12n) & 0xff_ffff_ffffn);
  }
  return found;
}

const secondStage = (values: Values): ReturnType<typeof scalableBench> =>
  scalableBench({ ...FULL, 'aw-bits': 57 }, { pwsnp: 1, ...values });

for (const levels of [3, 4, 5]) {
  for (const level of [1, 2, 3]) {
    test(`3.9, 13.7: second stage, ${levels} levels, leaf at ${level}`, t => {
      for (const ssade of [0, 1]) {
        for (const access of [READ, WRITE, READ_WRITE]) {
          for (const before of [0n, SS.A, SS.D, SS.A | SS.D]) {
            for (const link of [0n, SS.A]) {
              const { bench, second } = secondStage({ aw: levels - 2, ssade });
              const leaf = 0x1_4000_0003n | SOFTWARE | (level > 1 ? 0x80n : 0n);
              bench.mapAt(second, levels, IOVA, leaf | before, 3n | link | SOFTWARE, level);
              t.is(bench.fault(IOVA, access), 0);
              const due = ssade === 0 ? 0n : access & WRITE ? SS.A | SS.D : SS.A;
              const found = entries(bench, second, levels, level);
              t.is(found.pop(), leaf | before | due, 'the leaf, software bits and all');
              for (const each of found) t.is(each & ~0xf_ffff_ffff_f000n, 3n | link | SOFTWARE | (ssade ? SS.A : 0n));
              const written = ssade === 0 ? 0 : (link === 0n ? levels - level : 0) + ((before & due) === due ? 0 : 1);
              t.is(bench.memory.stores.length, written, 'no write where nothing is missing');
            }
          }
        }
      }
    });
  }
}

test('3.9 rules 1 and 5: a permission that is missing sets A above the leaf and nothing in the leaf', t => {
  for (const [leafBits, access, reason] of [
    [1n, WRITE, 0x85],
    [2n, READ, 0x86],
    [1n, READ_WRITE, 0x85],
  ] as const) {
    const { bench, second } = secondStage({ aw: 2, ssade: 1 });
    bench.mapAt(second, 4, IOVA, 0x9000n | leafBits, 3n);
    t.is(bench.fault(IOVA, access), reason);
    t.deepEqual(
      entries(bench, second, 4, 1).map(each => each & (SS.A | SS.D)),
      [SS.A, SS.A, SS.A, 0n],
    );
  }
});

test('3.9 rule 5: a walk that fails at level n leaves A in the levels above n, for each n and for both stages', t => {
  for (let failing = 1; failing <= 4; failing++) {
    const second = secondStage({ aw: 2, ssade: 1 });
    const first = scalableBench(FULL, { pgtt: 1, pwsnp: 1 });
    second.bench.mapAt(second.second, 4, IOVA, 0x9003n, 3n);
    first.bench.mapAt(first.first, 4, IOVA, 0x9007n, 7n);
    for (const { bench, root } of [
      { bench: second.bench, root: second.second },
      { bench: first.bench, root: first.first },
    ]) {
      let table = root;
      for (let at = 4; at > failing; at--) {
        table = Number(
          (bench.get64(table * 4096 + Number((IOVA >> BigInt(3 + 9 * at)) & 511n) * 8) >> 12n) & 0xff_ffffn,
        );
      }
      const address = table * 4096 + Number((IOVA >> BigInt(3 + 9 * failing)) & 511n) * 8;
      // Reserved in the second stage, and in the first one.
      bench.put64(address, bench.get64(address) | (root === second.second ? 1n << 62n : 1n << 50n));
    }
    t.is(second.bench.fault(IOVA), 0x7a);
    t.is(first.bench.fault(IOVA), 0x72);
    const above = 4 - failing;
    t.is(second.bench.memory.stores.length, above, `level ${failing}`);
    t.is(first.bench.memory.stores.length, above);
    t.true(second.bench.memory.stores.every(({ words }) => (BigInt(words[0]!) & SS.A) !== 0n));
    t.true(first.bench.memory.stores.every(({ words }) => (BigInt(words[0]!) & FS.A) !== 0n));
  }
});

test('3.9 rule 4: a missing bit and an unsnooped walk: 0x7C, 0x90; a table that cannot be written: 0x7D, 0x91; at each level', t => {
  for (let missing = 1; missing <= 4; missing++) {
    for (const [snooped, firstStage, reason] of [
      [0, false, 0x7c],
      [1, false, 0x7d],
      [0, true, 0x90],
      [1, true, 0x91],
    ] as const) {
      const values = { pwsnp: snooped, ...(firstStage ? { pgtt: 1 } : { ssade: 1 }) };
      const { bench, first, second } = scalableBench(FULL, values);
      const bits = firstStage ? 0x67n : 3n | SS.A | SS.D;
      const root = firstStage ? first : second;
      bench.mapAt(root, 4, IOVA, 0x9000n | bits, bits);
      t.is(bench.fault(IOVA, WRITE), 0, 'all bits are set: neither snooping nor writing is needed');
      bench.setRoot(Number(bench.read64(0x20) >> 12n), 1);
      let table = root;
      for (let at = 4; at > missing; at--) {
        table = Number(
          (bench.get64(table * 4096 + Number((IOVA >> BigInt(3 + 9 * at)) & 511n) * 8) >> 12n) & 0xff_ffffn,
        );
      }
      bench.flip(table * 4096 + Number((IOVA >> BigInt(3 + 9 * missing)) & 511n) * 8, firstStage ? 5 : 8);
      bench.memory.readOnly.add(table);
      t.is(bench.fault(IOVA, WRITE), reason, `level ${missing}`);
    }
  }
});

test('3.9 rule 6: legacy mode and pass-through write nothing', t => {
  const legacy = legacyBench();
  legacy.bench.mapAt(legacy.second, 4, IOVA, 0x9003n, 3n);
  t.is(legacy.bench.fault(IOVA, WRITE), 0);
  const through = scalableBench(FULL, { pgtt: 4, ssade: 1, pwsnp: 1 });
  t.is(through.bench.fault(IOVA, WRITE), 0);
  t.deepEqual([...legacy.bench.memory.stores, ...through.bench.memory.stores], []);
});

test('3.9 rule 8: EA goes with A where EAFE is set, and is left alone where it is not', t => {
  for (const eafe of [0, 1]) {
    for (const before of [0n, FS.A, FS.EA]) {
      const { bench, first } = scalableBench(FULL, { pgtt: 1, pwsnp: 1, eafe });
      bench.mapAt(first, 4, IOVA, 0x9007n | before, 7n | before);
      t.is(bench.fault(IOVA), 0);
      const wanted = FS.A | (eafe === 1 ? FS.EA : 0n);
      for (const each of entries(bench, first, 4, 1)) t.is(each & (FS.A | FS.EA), before | wanted);
    }
  }
});

test('4.6.2: nested: A in the second-stage entries behind tables that are read, D where an A or D bit is written', t => {
  for (const [pte, access, firstWritten] of [
    [0x67n, READ, false],
    [0x67n, WRITE, false],
    [0x7n, READ, true],
  ] as const) {
    const { bench, entries: addresses, second } = nestedTables({ ssade: 1, pwsnp: 1 }, {}, pte);
    t.is(bench.fault(NESTED_IOVA, access), 0);
    const leaf = (frame: number): bigint => {
      let table = second;
      for (let at = 4; at > 1; at--) {
        table = Number((bench.get64(table * 4096 + ((frame >>> (9 * (at - 1))) & 511) * 8) >> 12n) & 0xff_ffffn);
      }
      return bench.get64(table * 4096 + (frame & 511) * 8) & (SS.A | SS.D);
    };
    for (const address of addresses) {
      t.is(leaf(Math.floor(address / 4096)), firstWritten ? SS.A | SS.D : SS.A);
    }
    t.is(leaf(0x399), access & WRITE ? SS.A | SS.D : SS.A, 'the page itself');
  }
});
