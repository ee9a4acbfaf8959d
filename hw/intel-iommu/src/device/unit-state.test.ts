/** A unit's state, written and loaded: what is under way goes on, nothing is sent or told by loading, and nothing fits that is of another unit. */
import { StateError, StateReader, StateWriter, VirtualClock } from '@remora/core';
import test, { type ExecutionContext } from 'ava';
import { DeviceTlbDescriptor, Reg, Ttm, WaitDescriptor } from '../spec/index.js';
import { ATS, FakeFunction, functions } from './ats-bench.test.helper.js';
import { Bench, RID } from './bench.test.helper.js';

const MINUTE = 60_000_000_000;
const ITE = 0x40;
const IP = 0x4000_0000;

interface Rig {
  readonly bench: Bench;
  readonly clock: VirtualClock;
  readonly fn: FakeFunction;
  invalidate(): void;
  /** Its status address, where 2 appears. */
  wait(): number;
  done(status: number): boolean;
}

function rig(): Rig {
  const clock = new VirtualClock();
  const fn = new FakeFunction();
  fn.manner = 'later';
  const bench = new Bench(ATS, undefined, { ...functions({ [RID]: fn }), clock });
  bench.setRoot(bench.page(), Ttm.SCALABLE);
  bench.enableQueue(true);
  return {
    bench,
    clock,
    fn,
    invalidate: () => bench.submit(DeviceTlbDescriptor, { type: 3, sid: RID, addr: 0x12345 }),
    wait: () => {
      const status = bench.page() * 4096;
      bench.submit(WaitDescriptor, { type: 5, sw: 1, statusData: 2, statusAddressLow: status / 4 });
      return status;
    },
    done: status => bench.get64(status) === 2n,
  };
}

/** Saves the unit, resets it, and loads what was saved. */
function reload(t: ExecutionContext, { bench }: Rig): number {
  const into = new StateWriter();
  bench.unit.save(into);
  const messages = bench.messages.length;
  bench.unit.reset();
  const from = new StateReader(into.section, 'vtd');
  bench.unit.load(from);
  from.done();
  t.is(bench.messages.length, messages, 'loading sends nothing');
  return bench.unit.resume();
}

test('an invalidation that is awaited is sent again, and its wait completes with it', t => {
  const at = rig();
  at.invalidate();
  const status = at.wait();
  at.clock.step(MINUTE - 5);
  t.is(reload(t, at), 1);
  t.is(at.fn.received.length, 2);
  t.deepEqual(at.fn.received[1], at.fn.received[0]);
  t.false(at.done(status));
  at.fn.owed[0]!();
  t.false(at.done(status), 'the one that was sent before means nothing any more');
  at.fn.owed[1]!();
  t.true(at.done(status));
  at.clock.step(MINUTE);
  t.is(at.bench.read32(Reg.FSTS) & ITE, 0);
});

test('its time-out comes when it would have, and aborts the wait that had been fetched', t => {
  const at = rig();
  at.invalidate();
  const status = at.wait();
  at.clock.step(MINUTE - 5);
  reload(t, at);
  at.clock.step(4);
  t.is(at.bench.read32(Reg.FSTS), 0);
  at.clock.step(1);
  t.is(at.bench.read32(Reg.FSTS), ITE);
  t.is(at.bench.read32(Reg.IQH) / 32, 2, 'behind the wait');
  at.bench.write32(Reg.FSTS, ITE);
  t.false(at.done(status));
});

test('a message that waits for its mask is sent when that is lifted, and no earlier', t => {
  const at = rig();
  const { bench } = at;
  bench.write32(Reg.FEADDR, 0xfee0_1000);
  bench.submit(WaitDescriptor, { type: 0xf });
  t.is(bench.read32(Reg.FECTL) & IP, IP);
  reload(t, at);
  t.is(bench.messages.length, 0);
  bench.write32(Reg.FECTL, 0);
  t.is(bench.messages.length, 1);
});

test('while a descriptor is executed there is no state to save', t => {
  const at = rig();
  const failures: unknown[] = [];
  at.fn.invalidate = () => {
    try {
      at.bench.unit.save(new StateWriter());
    } catch (failure) {
      failures.push(failure);
    }
    return true;
  };
  at.invalidate();
  t.true(failures[0] instanceof StateError);
  t.regex(String(failures[0]), /between two accesses/);
  t.notThrows(() => at.bench.unit.save(new StateWriter()));
});

test('state of a unit with other capabilities is refused', t => {
  const into = new StateWriter();
  new Bench({ ...ATS, 'aw-bits': 39 }).unit.save(into);
  t.throws(() => rig().bench.unit.load(new StateReader(into.section, 'vtd')), {
    instanceOf: StateError,
    message: 'vtd.registers: CAP and ECAP are of a unit with other capabilities',
  });
});
