/** Nested translation (vtd.md 4.6.2): first-stage tables and outputs are guest addresses behind a second stage. */
import { Access } from '@remora/core';
import test from 'ava';
import { Pgtt } from '../spec/index.js';
import { FULL, scalableBench, type ScalableTables, type Values } from './bench.test.helper.js';

const ALL = Access.READ_WRITE | Access.EXECUTE;
const PTE = 0x67n;
const RW = 3n;
const IOVA = 0x7f00_1234_5000n;
/** Guest frames of the first-stage tables, top down, and of the page. */
const GUEST = [0x10, 0x11, 0x12, 0x13, 0x20] as const;
const PAGE = 0x20;
const { READ, WRITE } = Access;

interface NestedTables extends ScalableTables {
  /** Host frame behind each guest frame. */
  readonly host: Map<number, number>;
  /** Byte address of the second-stage leaf for a guest frame. */
  readonly leaf: Map<number, number>;
  /** Byte addresses of the first-stage entries, top down. */
  readonly entries: readonly number[];
}

/** Guest frames are scattered over host memory; `permissions` by guest frame override R and W in the second stage. */
function nested(
  entry: Values = {},
  permissions: Record<number, bigint> = {},
  fs: bigint = PTE,
  options: object = {},
): NestedTables {
  const tables = scalableBench({ ...FULL, ...options }, { pgtt: Pgtt.NESTED, fsptptr: GUEST[0], ...entry });
  const { bench, second } = tables;
  const host = new Map<number, number>();
  const leaf = new Map<number, number>();
  const levels = Number(entry['aw'] ?? 2) + 2;
  for (const frame of [...GUEST].reverse()) {
    host.set(frame, bench.page());
    const bits = permissions[frame] ?? RW;
    leaf.set(frame, bench.mapAt(second, levels, BigInt(frame) << 12n, (BigInt(host.get(frame)!) << 12n) | bits, RW));
  }
  const entries = [0, 1, 2, 3].map(depth => {
    const index = Number((IOVA >> BigInt(39 - 9 * depth)) & 0x1ffn);
    const address = host.get(GUEST[depth]!)! * 4096 + index * 8;
    bench.put64(address, (BigInt(GUEST[depth + 1]!) << 12n) | fs);
    return address;
  });
  return { ...tables, host, leaf, entries };
}

test('tables and page are found through the second stage', t => {
  const { bench, host } = nested();
  t.deepEqual(bench.request(IOVA, WRITE), { to: host.get(PAGE)! * 4096, shift: 12, access: ALL });
  bench.memory.loads = 0;
  t.like(bench.request(IOVA + 8n, WRITE), { to: host.get(PAGE)! * 4096 });
  t.is(bench.memory.loads, 0, 'and then in the IOTLB');
});

test('the smaller page of both stages counts, and the offset goes through both', t => {
  const large = nested();
  // A first-stage page of 2 MiB over second-stage pages of 4 KiB.
  large.bench.put64(large.entries[2]!, 0x0020_0000n | PTE | 0x80n);
  const inside = (0x0020_0000n + (IOVA & 0x1f_f000n)) >> 12n;
  large.bench.mapAt(large.second, 4, inside << 12n, 0x3_3000n | RW, RW);
  t.deepEqual(large.bench.request(IOVA), { to: 0x3_3000, shift: 12, access: ALL });

  // A first-stage page of 4 KiB over a second-stage page of 1 GiB.
  const small = nested();
  small.bench.mapAt(small.second, 4, 0x40_0000_0000n, 0x80_0000_0083n, RW, 3);
  small.bench.put64(small.entries[3]!, 0x40_1234_5000n | PTE);
  t.deepEqual(small.bench.request(IOVA), { to: 0x80_1234_5000, shift: 12, access: ALL });

  // 1 GiB over 2 MiB.
  const both = nested();
  both.bench.put64(both.entries[1]!, 0xc000_0000n | PTE | 0x80n);
  both.bench.mapAt(both.second, 4, 0xc000_0000n + (IOVA & 0x3fe0_0000n), 0x0060_0083n, RW, 2);
  t.deepEqual(both.bench.request(IOVA), { to: 0x60_0000, shift: 21, access: ALL });
});

test('permission is what both stages give', t => {
  const outcome = (ss: bigint, fs: bigint, access: number): number =>
    nested({}, { [PAGE]: ss }, fs).bench.fault(IOVA, access);
  t.is(outcome(RW, PTE, WRITE), 0);
  t.is(outcome(1n, PTE, WRITE), 0x85);
  t.is(outcome(2n, PTE, READ), 0x86);
  t.is(outcome(RW, PTE & ~2n, WRITE), 0x85);
  t.is(outcome(RW, PTE & ~4n, READ), 0x81);
  const { bench } = nested({}, { [PAGE]: 1n });
  t.like(bench.request(IOVA), { access: READ | Access.EXECUTE });
  t.is(bench.fault(IOVA, WRITE), 0x85, 'also from the IOTLB');
});

test('0x75, 0x76: the second stage does not let the tables be read', t => {
  t.is(nested({}, { [GUEST[0]]: 2n }).bench.fault(IOVA), 0x75);
  for (const frame of GUEST.slice(1, 4)) t.is(nested({}, { [frame]: 2n }).bench.fault(IOVA), 0x76);
});

test('0x78 to 0x7B: structural faults of the second stage on the way', t => {
  for (const frame of GUEST) {
    t.is(nested({}, { [frame]: 0n }).bench.fault(IOVA), 0x79);
    t.is(nested({}, { [frame]: RW | (1n << 62n) }).bench.fault(IOVA), 0x7a);
  }
  t.is(nested({ ssptptr: 0x8000 }).bench.fault(IOVA), 0x7b);
  const { bench, second } = nested();
  bench.put64(second * 4096, (0x8000n << 12n) | RW);
  t.is(bench.fault(IOVA), 0x78);
});

test('0x74, 0x84: guest addresses beyond the second-stage width', t => {
  const beyond = 1n << 39n;
  t.is(nested({ aw: 1 }).bench.fault(IOVA), 0);
  t.is(nested({ aw: 1, fsptptr: Number(beyond >> 12n) }).bench.fault(IOVA), 0x74);
  const table = nested({ aw: 1 });
  table.bench.put64(table.entries[1]!, beyond | PTE);
  t.is(table.bench.fault(IOVA), 0x74);
  const page = nested({ aw: 1 });
  page.bench.put64(page.entries[3]!, beyond | PTE);
  t.is(page.bench.fault(IOVA), 0x84);
});

test('first-stage faults as without nesting: 0x70 to 0x73, 0x80', t => {
  t.is(nested().bench.fault(1n << 47n), 0x80);
  const absent = nested();
  absent.bench.put64(absent.entries[2]!, 0n);
  t.is(absent.bench.fault(IOVA), 0x71);
  const reserved = nested();
  reserved.bench.flip(reserved.entries[0]!, 7);
  t.is(reserved.bench.fault(IOVA), 0x72);
  const unbacked = nested();
  unbacked.bench.put64(unbacked.leaf.get(GUEST[0])!, (0x8000n << 12n) | RW);
  t.is(unbacked.bench.fault(IOVA), 0x73);
  const lower = nested();
  lower.bench.put64(lower.leaf.get(GUEST[2])!, (0x8000n << 12n) | RW);
  t.is(lower.bench.fault(IOVA), 0x70);
});

test('the fault record holds the address of the request', t => {
  const { bench } = nested({}, { [GUEST[2]]: 2n });
  bench.fault(IOVA);
  t.is(bench.read64(0x220), IOVA);
});

test('0x87: only the final output counts, after both stages', t => {
  const output = nested();
  output.bench.put64(output.leaf.get(PAGE)!, 0xfee0_0000n | RW);
  t.is(output.bench.fault(IOVA), 0x87);
  const guest = nested();
  guest.bench.put64(guest.entries[3]!, 0xfee0_0000n | PTE);
  guest.bench.mapAt(guest.second, 4, 0xfee0_0000n, 0x3_3000n | RW, RW);
  t.like(guest.bench.request(IOVA), { to: 0x3_3000 });
});

test('accessed and dirty: first-stage bits land at the host page, second-stage D where they were written', t => {
  const { bench, entries, leaf } = nested({ pwsnp: 1, ssade: 1 }, {}, 7n);
  t.is(bench.fault(IOVA, WRITE), 0);
  t.deepEqual(
    entries.map(address => bench.get64(address) & 0x60n),
    [0x20n, 0x20n, 0x20n, 0x60n],
  );
  for (const frame of GUEST) t.is(bench.get64(leaf.get(frame)!) & 0x300n, 0x300n, `guest frame ${frame}`);
});

test('preset first-stage bits: tables are read only, so their second stage gets A', t => {
  const { bench, leaf } = nested({ pwsnp: 1, ssade: 1 });
  t.is(bench.fault(IOVA, READ), 0);
  for (const frame of GUEST) t.is(bench.get64(leaf.get(frame)!) & 0x300n, 0x100n, `guest frame ${frame}`);
});

test('0x77: a first-stage bit is due, but the second stage does not let the table be written', t => {
  t.is(nested({ pwsnp: 1 }, { [GUEST[1]]: 1n }, 7n).bench.fault(IOVA), 0x77);
  t.is(nested({ pwsnp: 1 }, { [GUEST[1]]: 1n }).bench.fault(IOVA), 0, 'preset bits need no write');
});

test('0x90: a first-stage bit is due and the walk is not snooped', t => {
  t.is(nested({}, {}, 7n).bench.fault(IOVA), 0x90);
});

test('FPD suppresses them', t => {
  const { bench } = nested({ fpd: 1 }, { [GUEST[2]]: 2n });
  t.is(bench.fault(IOVA), 0x76);
  t.deepEqual([bench.offered, bench.suppressed], [[], [0x76]]);
});
