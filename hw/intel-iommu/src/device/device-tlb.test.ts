/** Device-TLB invalidations: what functions are sent, what is waited for, time-outs and stray completions (vtd.md 5.1, 5.5, 7.5). */
import { Inspector, Ledger, NO_PASID, VirtualClock } from '@remora/core';
import test from 'ava';
import {
  DeviceTlbDescriptor,
  GlobalCommand,
  IotlbDescriptor,
  PasidDeviceTlbDescriptor,
  QueueErrorRecord,
  Reg,
  Ttm,
  WaitDescriptor,
} from '../spec/index.js';
import { ATS, FakeFunction, functions, type Manner } from './ats-bench.test.helper.js';
import { Bench, RID, type Values } from './bench.test.helper.js';
import { DEVICE_TLB_TIMEOUT_NS, MOST_OUTSTANDING } from './device-tlb-invalidation.js';

const OTHER = 0x0200;
const ABSENT = 0x0300;
const SECOND = 1_000_000_000;
const ICE = 0x20;
const ITE = 0x40;

interface Rig {
  readonly bench: Bench;
  readonly clock: VirtualClock;
  readonly fn: FakeFunction;
  readonly other: FakeFunction;
  /** Sends RID an invalidation; returns whether the queue went on. */
  invalidate(values?: Values): boolean;
  /** Submits a wait; returns its status address, where 2 appears when it completes. */
  wait(): number;
  /** Whether the wait with this status has completed. */
  done(status: number): boolean;
  head(): number;
  errors(): Record<string, number>;
}

function rig(manner: Manner = 'later', options: object = {}): Rig {
  const clock = new VirtualClock();
  const fn = new FakeFunction();
  const other = new FakeFunction();
  fn.manner = manner;
  other.manner = manner;
  const present = functions({ [RID]: fn, [OTHER]: other });
  const bench = new Bench({ ...ATS, ...options }, undefined, { ...present, clock });
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  return {
    bench,
    clock,
    fn,
    other,
    invalidate: (values = {}) => bench.submit(DeviceTlbDescriptor, { type: 3, sid: RID, addr: 0x12345, ...values }),
    wait: () => {
      const status = bench.page() * 4096;
      bench.submit(WaitDescriptor, { type: 5, sw: 1, statusData: 2, statusAddressLow: status / 4 });
      return status;
    },
    done: status => bench.get64(status) === 2n,
    head: () => bench.read32(Reg.IQH) / 32,
    errors: () =>
      QueueErrorRecord.decode(bench.unit.registers.words.subarray(Reg.IQERCD / 4, Reg.IQERCD / 4 + 2)) as never,
  };
}

test('the worked encodings of section 14: everything, without a PASID and of PASID 5', t => {
  const { bench, fn } = rig('at once');
  const sent = (low: bigint, high: bigint): boolean => {
    const words = Int32Array.of(
      Number(low & 0xffff_ffffn),
      Number(low >> 32n),
      Number(high & 0xffff_ffffn),
      Number(high >> 32n),
    );
    return bench.submitWords(Int32Array.of(...words, 0, 0, 0, 0));
  };
  // SID 0x0113 instead of 0x0100.
  t.true(sent(0x0000_0113_0000_0003n, 0x7fff_ffff_ffff_f001n));
  t.true(sent(0x0000_0005_0113_0008n, 0x7fff_ffff_ffff_f800n));
  t.deepEqual(fn.received, [
    { pasid: NO_PASID, global: false, address: 0, shift: 64 },
    { pasid: 5, global: false, address: 0, shift: 64 },
  ]);
});

test('size codes: a page, a run of ones ended by a zero, everything; both types', t => {
  for (const type of [3, 8]) {
    const { bench, fn } = rig('at once');
    const layout = type === 3 ? DeviceTlbDescriptor : PasidDeviceTlbDescriptor;
    const ranges: readonly (readonly [addr: number | bigint, s: number, address: number, shift: number])[] = [
      [0x12347, 0, 0x1234_7000, 12],
      [0x12346, 1, 0x1234_6000, 13],
      [0x12345, 1, 0x1234_4000, 14],
      [0x122ff, 1, 0x1220_0000, 21],
      [0x5_1fffn, 1, 0x5000_0000, 26],
      [0x3_ffff_ffff_ffffn, 1, 0, 63],
      [0x7_ffff_ffff_ffffn, 1, 0, 64],
      [0xf_ffff_ffff_ffffn, 1, 0, 64],
    ];
    for (const [addr, s] of ranges) t.true(bench.submit(layout, { type, sid: RID, addr, s } as never));
    t.deepEqual(
      fn.received.map(({ address, shift }) => [address, shift]),
      ranges.map(([, , address, shift]) => [address, shift]),
    );
  }
});

test('type 8 has a PASID and a global bit', t => {
  const { bench, fn } = rig('at once');
  bench.submit(PasidDeviceTlbDescriptor, { type: 8, sid: RID, pasid: 0xf_ffff, addr: 1 });
  bench.submit(PasidDeviceTlbDescriptor, { type: 8, sid: RID, pasid: 5, g: 1, addr: 1 });
  t.deepEqual(
    fn.received.map(({ pasid, global }) => [pasid, global]),
    [
      [0xf_ffff, false],
      [5, true],
    ],
  );
});

test('a function that is done at once, or before the call returns, holds up nothing', t => {
  for (const manner of ['at once', 'within the call'] as const) {
    const { invalidate, wait, done, bench, clock } = rig(manner);
    t.true(invalidate());
    t.true(invalidate());
    t.true(done(wait()));
    t.is(clock.next(), undefined, 'no time-out is left');
    t.is(bench.read32(Reg.FSTS), 0);
  }
});

test('a wait waits until all invalidations are completed; the queue stands at it, and goes on by itself', t => {
  const { bench, fn, other, invalidate, wait, done, head, clock } = rig();
  t.true(invalidate());
  t.true(invalidate({ sid: OTHER }), 'other descriptors do not wait');
  t.true(bench.submit(IotlbDescriptor, { type: 2, g: 1 }));
  const first = wait();
  const second = wait();
  t.is(head(), 3);
  t.deepEqual([done(first), done(second)], [false, false]);
  other.owed[0]!();
  t.is(head(), 3);
  bench.write32(Reg.IQT, bench.read32(Reg.IQT));
  t.is(head(), 3, 'a tail does not help');
  fn.owed[0]!();
  t.deepEqual([done(first), done(second), head()], [true, true, 5]);
  t.is(clock.next(), undefined);
  t.is(bench.read32(Reg.FSTS), 0);
});

test('a fence, and a wait that does nothing, wait too', t => {
  for (const values of [{ fn: 1 }, {}]) {
    const { bench, fn, invalidate, head } = rig();
    invalidate();
    t.false(bench.submit(WaitDescriptor, { type: 5, ...values }));
    t.is(head(), 1);
    fn.owed[0]!();
    t.is(head(), 2);
  }
});

test('time-out: ITE and the source id; the wait that was fetched never completes; fetching stops until ITE is cleared', t => {
  const { bench, clock, invalidate, wait, done, head, errors } = rig('never');
  bench.write32(Reg.FEADDR, 0xfee0_1000);
  bench.write32(Reg.FECTL, 0);
  invalidate();
  const aborted = wait();
  t.is(DEVICE_TLB_TIMEOUT_NS, 60 * SECOND);
  clock.step(60 * SECOND - 1);
  t.deepEqual([bench.read32(Reg.FSTS), head(), bench.messages.length], [0, 1, 0]);
  clock.step(1);
  t.is(bench.read32(Reg.FSTS), ITE);
  t.like(errors(), { itesid: RID, iqei: 0 });
  t.is(bench.messages.length, 1, 'the fault event');
  t.is(head(), 2, 'behind the wait, which is aborted');
  const after = wait();
  t.is(head(), 2, 'nothing is fetched');
  t.false(done(after));
  bench.write32(Reg.FSTS, ITE);
  t.is(bench.read32(Reg.FSTS), 0);
  t.deepEqual([done(after), head(), done(aborted)], [true, 3, false]);
});

test('a time-out before a wait is fetched aborts none', t => {
  const { bench, clock, invalidate, wait, done } = rig('never');
  invalidate();
  clock.step(60 * SECOND);
  t.is(bench.read32(Reg.FSTS), ITE);
  const status = wait();
  t.false(done(status));
  bench.write32(Reg.FSTS, ITE);
  t.true(done(status));
});

test('invalidations time out one by one; ITESID is that of the first until ITE is cleared', t => {
  const { bench, clock, invalidate, wait, done, errors } = rig('never');
  invalidate({ sid: OTHER });
  clock.step(10 * SECOND);
  invalidate();
  clock.step(50 * SECOND);
  t.like(errors(), { itesid: OTHER });
  clock.step(10 * SECOND);
  t.like(errors(), { itesid: OTHER });
  bench.write32(Reg.FSTS, ITE);
  t.true(done(wait()));
  invalidate();
  clock.step(60 * SECOND);
  t.like(errors(), { itesid: RID });
});

test('a function that is not there times out; without a clock, at once', t => {
  const { bench, clock, invalidate, wait, done, errors } = rig();
  t.true(invalidate({ sid: ABSENT }));
  const status = wait();
  clock.step(60 * SECOND);
  t.is(bench.read32(Reg.FSTS), ITE);
  t.like(errors(), { itesid: ABSENT });
  t.false(done(status));
  const timeless = new Bench(ATS, undefined, functions({}));
  timeless.setRoot(timeless.page(), Ttm.SCALABLE);
  timeless.enableQueue(true);
  t.true(timeless.submit(DeviceTlbDescriptor, { type: 3, sid: ABSENT }));
  t.is(timeless.read32(Reg.FSTS), ITE);
});

test('a unit that knows no functions at all has nothing to wait for', t => {
  const bench = new Bench(ATS);
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  t.true(bench.submit(DeviceTlbDescriptor, { type: 3, sid: ABSENT }));
  t.true(bench.submit(WaitDescriptor, { type: 5 }));
  t.is(bench.read32(Reg.FSTS), 0);
});

test('a completion after the time-out, or a second one, is unexpected: ICE and the source id', t => {
  const late = rig();
  late.invalidate({ sid: OTHER });
  late.clock.step(60 * SECOND);
  late.bench.write32(Reg.FSTS, ITE);
  late.other.owed[0]!();
  t.is(late.bench.read32(Reg.FSTS), ICE);
  t.like(late.errors(), { icesid: OTHER });
  t.true(late.done(late.wait()), 'ICE does not stop the queue');
  late.bench.write32(Reg.FSTS, ICE);
  t.is(late.bench.read32(Reg.FSTS), 0);
  const twice = rig();
  twice.invalidate();
  twice.fn.owed[0]!();
  twice.invalidate();
  twice.fn.owed[0]!();
  t.is(twice.bench.read32(Reg.FSTS), ICE);
  t.like(twice.errors(), { icesid: RID });
  t.false(twice.done(twice.wait()), 'the second invalidation is not completed by it');
});

test('ICESID is that of the first stray completion until ICE is cleared; ITE and ICE share one event', t => {
  const { bench, fn, other, clock, invalidate, errors } = rig();
  bench.write32(Reg.FEADDR, 0xfee0_1000);
  bench.write32(Reg.FECTL, 0);
  invalidate();
  invalidate({ sid: OTHER });
  clock.step(60 * SECOND);
  fn.owed[0]!();
  other.owed[0]!();
  t.is(bench.read32(Reg.FSTS), ITE | ICE);
  t.like(errors(), { itesid: RID, icesid: RID });
  t.is(bench.messages.length, 1);
});

test('MIP: no more than that many outstanding of one function; the next stands in the queue', t => {
  const { fn, invalidate, head, wait, done } = rig();
  t.true(invalidate({ mip: 2 }));
  t.true(invalidate({ mip: 2 }));
  t.false(invalidate({ mip: 2 }));
  t.deepEqual([fn.received.length, head()], [2, 2]);
  fn.owed[1]!();
  t.deepEqual([fn.received.length, head()], [3, 3]);
  t.true(invalidate({ sid: OTHER, mip: 1 }), 'another function has its own');
  const status = wait();
  for (const owed of [fn.owed[0]!, fn.owed[2]!]) owed();
  t.false(done(status));
});

test('MIP 0 stands for 32', t => {
  const { fn, invalidate, head } = rig();
  for (let n = 0; n < 32; n++) t.true(invalidate());
  t.false(invalidate());
  t.deepEqual([fn.received.length, head()], [32, 32]);
});

test('functions that are not there hold up the queue when they are many', t => {
  const { bench, clock, invalidate, head } = rig();
  for (let sid = 0x1000; sid < 0x1000 + MOST_OUTSTANDING; sid++) t.true(invalidate({ sid }));
  t.false(invalidate({ sid: 0x2000 }));
  clock.step(60 * SECOND);
  bench.write32(Reg.FSTS, ITE);
  t.is(head(), (MOST_OUTSTANDING + 1) % 128);
});

test('a wait that was fetched is aborted by the time-out whatever software has done to the tail', t => {
  const bad = rig('never');
  bad.invalidate();
  const status = bad.wait();
  const tail = bad.bench.read32(Reg.IQT);
  bad.bench.write32(Reg.IQT, 1);
  t.is(bad.bench.read32(Reg.FSTS), 0x10);
  bad.clock.step(60 * SECOND);
  bad.bench.write32(Reg.IQT, tail);
  bad.bench.write32(Reg.FSTS, 0x10 | ITE);
  t.deepEqual([bad.done(status), bad.head(), bad.bench.read32(Reg.FSTS)], [false, 2, 0]);
  const back = rig('never');
  back.invalidate();
  const taken = back.wait();
  back.bench.write32(Reg.IQT, 32);
  back.clock.step(60 * SECOND);
  back.bench.write32(Reg.FSTS, ITE);
  t.deepEqual([back.done(taken), back.head()], [false, 1], 'taken back: the queue is empty');
});

test('MIP in the bits of type 8; a time-out makes room, but stops the queue', t => {
  const { bench, fn, clock, head } = rig();
  const send = (): boolean => bench.submit(PasidDeviceTlbDescriptor, { type: 8, sid: RID, pasid: 5, mip: 1 });
  t.true(send());
  t.false(send());
  clock.step(60 * SECOND);
  t.deepEqual([bench.read32(Reg.FSTS), head(), fn.received.length], [ITE, 1, 1]);
  bench.write32(Reg.FSTS, ITE);
  t.deepEqual([head(), fn.received.length], [2, 2]);
});

test('PFSID: with ECAP.DIT functions of one physical function share MIP; without it the field is reserved', t => {
  const shared = { pfsidLow: 4, pfsidHigh: 0x12, mip: 1 };
  const { fn, other, invalidate, head } = rig('later', { 'x-dit': true });
  t.true(invalidate(shared));
  t.false(invalidate({ ...shared, sid: OTHER }));
  fn.owed[0]!();
  t.is(head(), 2);
  t.is(other.received.length, 1, 'it goes to the function itself');
  t.true(invalidate({ ...shared, pfsidLow: 5, sid: OTHER }));
  const without = rig();
  t.false(without.invalidate({ pfsidLow: 4 }));
  t.deepEqual([without.bench.read32(Reg.FSTS), without.errors()['iqei']], [0x10, 4]);
});

test('a queue that is disabled while it waits starts anew; what is outstanding still holds up its waits', t => {
  const { bench, fn, invalidate, wait, done } = rig();
  invalidate();
  const given = wait();
  bench.write32(Reg.GCMD, 0);
  t.is(bench.read32(Reg.GSTS) & GlobalCommand.QIE, 0);
  t.is(bench.read32(Reg.IQH), 0);
  bench.enableQueue(true);
  const status = wait();
  t.false(done(status));
  fn.owed[0]!();
  t.deepEqual([done(status), done(given)], [true, false]);
});

test('reset: nothing is outstanding, nothing times out, and what was owed is no error', t => {
  const { bench, fn, clock, invalidate } = rig();
  invalidate();
  bench.unit.reset();
  t.is(clock.next(), undefined);
  fn.owed[0]!();
  t.is(bench.read32(Reg.FSTS), 0);
});

test('inspection shows what is outstanding', t => {
  const { bench, fn, clock, invalidate } = rig();
  clock.step(5);
  invalidate({ s: 1 });
  const shown = (): unknown => {
    const into = new Inspector();
    bench.unit.inspect(into);
    return into.toJSON()['deviceTlbInvalidations'];
  };
  const outstanding = {
    requesterId: RID,
    pasid: NO_PASID,
    address: '0x12344000',
    shift: 14,
    deadline: 60 * SECOND + 5,
  };
  t.deepEqual(shown(), [outstanding]);
  fn.owed[0]!();
  t.deepEqual(shown(), []);
});

test('the ledger tells of time-outs and of stray completions', t => {
  const ledger = new Ledger();
  ledger.on = true;
  const fn = new FakeFunction();
  fn.manner = 'later';
  const clock = new VirtualClock();
  const bench = new Bench(ATS, undefined, { ...functions({ [RID]: fn }), clock, ledger });
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  bench.submit(PasidDeviceTlbDescriptor, { type: 8, sid: RID, pasid: 5, addr: 0x12345 });
  clock.step(60 * SECOND);
  fn.owed[0]!();
  const told = ledger.events.filter(({ kind }) => kind.startsWith('device-tlb')).map(({ kind, data }) => [kind, data]);
  const what = { requesterId: RID, pasid: 5, hi: 0, lo: 0x1234_5000, shift: 12 };
  t.deepEqual(told, [
    ['device-tlb-timeout', what],
    ['device-tlb-unexpected', what],
  ]);
});

test('propagation still hears of each invalidation, before the function does', t => {
  const order: string[] = [];
  const fn = new FakeFunction();
  const propagation = { deviceTlbInvalidate: (): void => void order.push(`propagation ${fn.received.length}`) };
  const bench = new Bench(ATS, propagation, functions({ [RID]: fn }));
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  t.true(bench.submit(DeviceTlbDescriptor, { type: 3, sid: RID }));
  t.deepEqual([order, fn.received.length], [['propagation 0'], 1]);
});

test('compat=qemu-10.2: an invalidation is done when it was sent', t => {
  const compat = { compat: 'qemu-10.2', 'device-iotlb': true } as const;
  const fn = new FakeFunction();
  fn.manner = 'later';
  const clock = new VirtualClock();
  const bench = new Bench(compat, undefined, { ...functions({ [RID]: fn }), clock });
  bench.setRoot(bench.page());
  bench.enableQueue(false);
  t.true(bench.submit(DeviceTlbDescriptor, { type: 3, sid: RID }));
  t.true(bench.submit(DeviceTlbDescriptor, { type: 3, sid: ABSENT }));
  t.true(bench.submit(WaitDescriptor, { type: 5, fn: 1 }));
  t.is(clock.next(), undefined);
  fn.owed[0]!();
  t.is(bench.read32(Reg.FSTS), 0);
});
