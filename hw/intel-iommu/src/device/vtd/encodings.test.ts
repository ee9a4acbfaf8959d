/** vtd.md 14: each worked encoding, put into memory as it stands there, does what it says; and what the unit writes is as it stands there. */
import { Access } from '@remora/core';
import test from 'ava';
import type { VtdPropagation } from '../environment.js';
import { Bench, FULL, legacyBench, scalableBench } from '../bench.test.helper.js';
import { InterruptBench } from '../interrupt-bench.test.helper.js';

const IQA = 0x90;
const IQT = 0x88;
const IQH = 0x80;
/** 00:1f.0 and 01:00.0. */
const BRIDGE = 0xf8;
const DEVICE = 0x100;

/** Executes one descriptor. `wide` if the mode wants 256 bits. */
function execute(bench: Bench, wide: boolean, low: bigint, high = 0n): void {
  const queue = bench.page() * 4096;
  bench.put64(queue, low);
  bench.put64(queue + 8, high);
  bench.write32(IQT, 0);
  bench.write64(IQA, BigInt(queue + (wide ? 0x800 : 0)));
  bench.command(0x0400_0000);
  bench.write32(IQT, wide ? 32 : 16);
  if (bench.read32(IQH) !== (wide ? 32 : 16)) throw new Error('the descriptor was refused');
}

test('14: CC device, SID 0x00F8, DID 0', t => {
  const bench = new Bench();
  const [root, contexts] = [bench.page(), bench.page()];
  bench.put64(root * 4096, BigInt(contexts * 4096 + 1));
  for (const [devfn, did] of [
    [0xf8, 0n],
    [0xf9, 0n],
  ] as const) {
    bench.put64(contexts * 4096 + devfn * 16, 9n);
    bench.put64(contexts * 4096 + devfn * 16 + 8, 2n | (did << 8n));
  }
  bench.setRoot(root);
  bench.command(0x8000_0000);
  for (const rid of [BRIDGE, BRIDGE + 1]) {
    t.is(bench.fault(0x1000, Access.READ, -1, rid), 0);
    bench.put64(contexts * 4096 + rid * 16, 0n);
    t.is(bench.fault(0x1000, Access.READ, -1, rid), 0, 'cached');
  }
  execute(bench, false, 0x0000_00f8_0000_0031n);
  t.is(bench.fault(0x1000, Access.READ, -1, BRIDGE), 2);
  t.is(bench.fault(0x1000, Access.READ, -1, BRIDGE + 1), 0, 'the neighbour stays');
});

test('14: IOTLB page, DID 5, address 0x12345000, AM 0, IH 1, DR + DW', t => {
  const { bench, second } = legacyBench({}, { did: 5 });
  for (const page of [0x1234_5000n, 0x1234_6000n]) {
    bench.mapAt(second, 4, page, page | 3n, 3n);
    bench.request(page);
    bench.mapAt(second, 4, page, 0n, 3n);
  }
  execute(bench, false, 0x0000_0000_0005_00f2n, 0x0000_0000_1234_5040n);
  t.deepEqual([bench.fault(0x1234_5000n), bench.fault(0x1234_6000n)], [6, 0]);
});

test('14: PIOTLB all in PASID 0, DID 1', t => {
  const { bench, first, entryOf, entry } = scalableBench(FULL, { pgtt: 1, did: 1 }, { paside: 1 });
  for (let at = 0; at < 24; at += 8) bench.put64(entryOf(5) + at, bench.get64(entry + at));
  bench.mapAt(first, 4, 0x5000n, 0x9067n, 0x67n);
  for (const pasid of [0, 5]) bench.request(0x5000, Access.READ, pasid);
  bench.mapAt(first, 4, 0x5000n, 0n, 0x67n);
  execute(bench, true, 0x0000_0000_0001_0026n);
  t.deepEqual([bench.fault(0x5000, Access.READ, 0), bench.fault(0x5000, Access.READ, 5)], [0x71, 0]);
});

test('14: PASID-cache PASID 5, DID 1', t => {
  const { bench, entryOf } = scalableBench(FULL, { pgtt: 4, did: 1 }, { paside: 1 });
  for (const pasid of [0, 5]) {
    bench.put64(entryOf(pasid), 0x101n);
    bench.put64(entryOf(pasid) + 8, 1n);
    t.is(bench.fault(0x5000, Access.READ, pasid), 0);
    bench.put64(entryOf(pasid), 0n);
  }
  execute(bench, true, 0x0000_0005_0001_0017n);
  t.deepEqual([bench.fault(0x5000, Access.READ, 0), bench.fault(0x5000, Access.READ, 5)], [0, 0x59]);
});

test('14: device TLB and PASID device TLB, SID 0x0100, everything', t => {
  const seen: unknown[] = [];
  const propagation = {
    deviceTlbInvalidate: (...args: unknown[]) => seen.push(args) * 0,
  } as unknown as VtdPropagation;
  for (const [low, high] of [
    [0x0000_0100_0000_0003n, 0x7fff_ffff_ffff_f001n],
    [0x0000_0005_0100_0008n, 0x7fff_ffff_ffff_f800n],
  ] as const) {
    const bench = new Bench({ ...FULL, 'device-iotlb': true }, propagation);
    bench.setRoot(bench.page(), 1);
    execute(bench, true, low, high);
  }
  t.deepEqual(seen, [
    [DEVICE, -1, 0, 0, 64, false],
    [DEVICE, 5, 0, 0, 64, false],
  ]);
});

test('14: IEC index 5, and global', t => {
  const bench = new InterruptBench();
  for (const index of [5, 6]) {
    bench.put64(bench.at(index), 0x0000_0300_0041_0001n);
    bench.interrupt(index);
    bench.put64(bench.at(index), 0n);
  }
  const outcomes = (): unknown[] => [5, 6].map(index => 'fault' in (bench.interrupt(index) ?? {}));
  t.deepEqual(outcomes(), [false, false]);
  bench.submitWords(Int32Array.of(0x14, 5, 0, 0));
  t.deepEqual(outcomes(), [true, false]);
  bench.submitWords(Int32Array.of(0x4, 0, 0, 0));
  t.deepEqual(outcomes(), [true, true]);
});

test('14: wait, SW, data 2, address 0x1000', t => {
  const bench = new Bench();
  execute(bench, false, 0x0000_0002_0000_0025n, 0x1000n);
  t.deepEqual(bench.memory.stores, [{ address: 0x1000, words: [2] }]);
});

test('14: FRCD: read, SID 0x0100, reason 0x79, no PASID, address 0x1234000', t => {
  const { bench, rootEntry, context } = scalableBench();
  // 01:00.0 has the context entry of the bench's device.
  const contexts = Number(bench.get64(rootEntry) & ~0xfffn);
  for (let at = 0; at < 32; at += 8) bench.put64(contexts + at, bench.get64(context + at));
  t.is(bench.fault(0x0123_4000, Access.READ, -1, DEVICE), 0x79);
  t.deepEqual([bench.read64(0x220), bench.read64(0x228)], [0x0123_4000n, 0xc000_0079_0000_0100n]);
});

test('14: FRCD: write, SID 0x0100, reason 0x71, PASID 5', t => {
  const { bench, rootEntry, context, entry, entryOf } = scalableBench(FULL, { pgtt: 1 }, { paside: 1 });
  const contexts = Number(bench.get64(rootEntry) & ~0xfffn);
  for (let at = 0; at < 32; at += 8) bench.put64(contexts + at, bench.get64(context + at));
  for (let at = 0; at < 24; at += 8) bench.put64(entryOf(5) + at, bench.get64(entry + at));
  t.is(bench.fault(0x7f_0000_1234n, Access.WRITE, 5, DEVICE), 0x71);
  t.deepEqual([bench.read64(0x220), bench.read64(0x228)], [0x7f_0000_1000n, 0x8000_0571_8000_0100n]);
});

test('14: IRTE: fixed, edge, vector 0x41, xAPIC destination 3, verify SID 0x0100; remappable MSI, index 0x8005', t => {
  const bench = new InterruptBench({}, 15);
  bench.put64(bench.at(0x8005), 0x0000_0300_0041_0001n);
  bench.put64(bench.at(0x8005) + 8, 0x0000_0000_0004_0100n);
  t.deepEqual(bench.message(0xfee0_00b4n, 0, DEVICE), { address: 0xfee0_3000n, data: 0x41 });
  t.deepEqual(bench.message(0xfee0_00b4n, 0, DEVICE + 1), { fault: 0x26 });
});
