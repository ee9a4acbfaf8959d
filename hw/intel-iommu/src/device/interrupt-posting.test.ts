/** Posted interrupts (VT-d 5.2, vtd.md 8.2): the descriptor in memory, ON, SN, URG, and the notification. */
import test from 'ava';
import { PostedDescriptor, PostedInterruptEntry, XapicPostedDescriptor, Fault } from '../spec/index.js';
import { NOWHERE, RID, type Values } from './bench.test.helper.js';
import { InterruptBench } from './interrupt-bench.test.helper.js';

const POSTED = { 'x-pi': true, eim: true };
const NOTIFICATION = { nv: 0xf2, ndst: 7 };
/** Byte address of the descriptor's frame, and of the descriptor in it. */
const FRAME = 0x2000;
const DESCRIPTOR = FRAME * 4096 + 0x740;

function postedBench(entry: Values = {}, descriptor: Values = NOTIFICATION, extended = false): InterruptBench {
  const bench = new InterruptBench(POSTED, 7, extended);
  const values = { p: 1, im: 1, v: 0x41, pdaLow: DESCRIPTOR / 64, ...entry };
  bench.irte(5, values, PostedInterruptEntry as never);
  const layout = extended ? PostedDescriptor : XapicPostedDescriptor;
  bench.put(DESCRIPTOR, layout.encode(descriptor));
  return bench;
}

const pir = (bench: InterruptBench): bigint[] => [0, 8, 16, 24].map(at => bench.get64(DESCRIPTOR + at));
const control = (bench: InterruptBench): bigint => bench.get64(DESCRIPTOR + 32) & 3n;

test('every vector sets its own bit', t => {
  for (const vector of [0, 1, 31, 32, 63, 64, 0x41, 127, 128, 200, 255]) {
    const bench = postedBench({ v: vector });
    bench.interrupt(5);
    const expected = [0n, 0n, 0n, 0n];
    expected[vector >>> 6] = 1n << BigInt(vector & 63);
    t.deepEqual(pir(bench), expected, `vector ${vector}`);
  }
});

test('the first one notifies: a fixed, edge triggered interrupt NV at NDST; ON keeps later ones quiet', t => {
  const bench = postedBench();
  t.deepEqual(bench.interrupt(5), { address: 0xfee0_7000n, data: 0xf2 });
  t.is(control(bench), 1n);
  bench.irte(6, { p: 1, im: 1, v: 0x42, pdaLow: DESCRIPTOR / 64, urg: 1 }, PostedInterruptEntry as never);
  t.is(bench.interrupt(6), undefined);
  t.is(pir(bench)[1], 0b110n);
  bench.put64(DESCRIPTOR + 32, bench.get64(DESCRIPTOR + 32) & ~1n);
  t.deepEqual(bench.interrupt(6), { address: 0xfee0_7000n, data: 0xf2 }, 'software cleared ON');
});

test('SN: nothing but urgent interrupts notify', t => {
  const quiet = postedBench({}, { ...NOTIFICATION, sn: 1 });
  t.is(quiet.interrupt(5), undefined);
  t.is(control(quiet), 2n, 'ON stays clear');
  t.is(pir(quiet)[1], 2n);
  const urgent = postedBench({ urg: 1 }, { ...NOTIFICATION, sn: 1 });
  t.deepEqual(urgent.interrupt(5), { address: 0xfee0_7000n, data: 0xf2 });
  t.is(control(urgent), 3n);
});

test('one store of the whole descriptor, which leaves the rest of it as it was', t => {
  const bench = postedBench({}, { ...NOTIFICATION, pir3: 1n << 63n, pir0: 5 });
  bench.interrupt(5);
  t.is(bench.memory.stores.length, 1);
  t.is(bench.memory.stores[0]!.address, DESCRIPTOR);
  t.is(bench.memory.stores[0]!.words.length, 16);
  t.deepEqual(pir(bench), [5n, 2n, 0n, 1n << 63n]);
  t.is(bench.get64(DESCRIPTOR + 32), 0x0000_0700_00f2_0001n);
});

test('EIME: the notification destination has 32 bits', t => {
  const bench = postedBench({}, { nv: 0xf2, ndst: 0x1234_5678 }, true);
  t.deepEqual(bench.interrupt(5), { address: 0x1234_5600_fee7_8000n, data: 0xf2 });
});

test('the descriptor address has its bits 63:32 in the upper quadword', t => {
  const bench = postedBench({ pdaHigh: 1 });
  t.deepEqual(bench.interrupt(5), { fault: Fault.IR_8 }, 'nothing is there');
  t.deepEqual(pir(bench), [0n, 0n, 0n, 0n]);
});

test('a descriptor that cannot be read or written', t => {
  const nowhere = postedBench({ pdaLow: NOWHERE * 64 });
  t.deepEqual(nowhere.interrupt(5), { fault: Fault.IR_8 });
  const readOnly = postedBench();
  readOnly.memory.readOnly.add(FRAME);
  t.deepEqual(readOnly.interrupt(5), { fault: Fault.IR_8 });
  const suppressed = postedBench({ pdaLow: NOWHERE * 64, fpd: 1 });
  t.deepEqual(suppressed.interrupt(5), { fault: Fault.IR_8 });
  t.deepEqual(suppressed.offered, []);
  t.deepEqual(suppressed.suppressed, [Fault.IR_8]);
});

for (const extended of [false, true]) {
  const layout = extended ? PostedDescriptor : XapicPostedDescriptor;
  test(`each reserved bit of a descriptor, one at a time, ${extended ? 'with' : 'without'} EIME`, t => {
    const bench = postedBench({}, NOTIFICATION, extended);
    const before = new Int32Array(16);
    let reserved = 0;
    for (let bit = 0; bit < 512; bit++) {
      if (((layout.reserved[bit >>> 5]! >>> (bit & 31)) & 1) === 0) continue;
      reserved++;
      bench.put(DESCRIPTOR, layout.encode(NOTIFICATION));
      bench.flip(DESCRIPTOR, bit);
      t.deepEqual(bench.interrupt(5), { fault: Fault.IR_9 }, `bit ${bit}`);
    }
    t.is(reserved, 14 + 8 + (extended ? 0 : 24) + 192);
    bench.memory.ram.load(0, DESCRIPTOR, before, 0, 16);
    t.deepEqual([...before.subarray(0, 8)], new Array(8).fill(0), 'nothing was posted');
    bench.irte(6, { p: 1, fpd: 1, im: 1, pdaLow: DESCRIPTOR / 64 }, PostedInterruptEntry as never);
    t.deepEqual(bench.interrupt(6), { fault: Fault.IR_9 });
    t.deepEqual(bench.suppressed, [Fault.IR_9]);
  });
}

test('each reserved bit of a posted entry, one at a time', t => {
  const bench = postedBench();
  let reserved = 0;
  for (let bit = 0; bit < 128; bit++) {
    if (((PostedInterruptEntry.reserved[bit >>> 5]! >>> (bit & 31)) & 1) === 0) continue;
    reserved++;
    bench.irte(bit, { p: 1, im: 1, pdaLow: DESCRIPTOR / 64 }, PostedInterruptEntry as never);
    bench.flip(bench.at(bit), bit);
    t.deepEqual(bench.interrupt(bit), { fault: Fault.IR_5 }, `bit ${bit}`);
  }
  t.is(reserved, 6 + 2 + 14 + 12);
  t.deepEqual(pir(bench), [0n, 0n, 0n, 0n]);
});

test('a source that is not verified posts nothing', t => {
  const bench = postedBench({ sid: RID ^ 1, svt: 1 });
  t.deepEqual(bench.interrupt(5), { fault: Fault.IR_7 });
  t.deepEqual(pir(bench), [0n, 0n, 0n, 0n]);
});

test("the entry is cached, the descriptor's address with it; its contents are not", t => {
  const bench = postedBench();
  bench.interrupt(5);
  bench.irte(5, { p: 0 });
  bench.put(DESCRIPTOR, XapicPostedDescriptor.encode({ nv: 0x33, ndst: 1 }));
  t.deepEqual(bench.interrupt(5), { address: 0xfee0_1000n, data: 0x33 });
  bench.flush(5);
  t.deepEqual(bench.interrupt(5), { fault: Fault.IR_3 });
});
