/** The interrupt entry cache (vtd.md 5.6, 8.4, 9): what stays, and what an invalidation takes away. */
import test from 'ava';
import { Fault, GlobalCommand } from '../spec/index.js';
import { RID } from './bench.test.helper.js';
import { InterruptBench, PLAIN } from './interrupt-bench.test.helper.js';

const OLD = { address: 0xfee0_3000n, data: 0x41 };
const NEW = { address: 0xfee0_3000n, data: 0x42 };
const CHANGED = { ...PLAIN, v: 0x42 };

/** A bench whose entries 0 .. 63 were used and then changed. */
function staleBench(): InterruptBench {
  const bench = new InterruptBench();
  for (let index = 0; index < 64; index++) {
    bench.irte(index, PLAIN);
    bench.interrupt(index);
    bench.irte(index, CHANGED);
  }
  return bench;
}

/** The indices below 64 that are answered from the table as it is now. */
function renewed(bench: InterruptBench): number[] {
  const indices = Array.from({ length: 64 }, (_, index) => index);
  const outcomes = indices.map(index => bench.interrupt(index));
  return indices.filter(index => {
    const outcome = outcomes[index]!;
    return 'data' in outcome && outcome.data === 0x42;
  });
}

test('a used entry is served as it was until it is invalidated', t => {
  const bench = new InterruptBench();
  bench.irte(5, PLAIN);
  t.deepEqual(bench.interrupt(5), OLD);
  bench.irte(5, CHANGED);
  bench.memory.loads = 0;
  t.deepEqual(bench.interrupt(5), OLD);
  t.is(bench.memory.loads, 0);
  t.true(bench.flush(5));
  t.deepEqual(bench.interrupt(5), NEW);
});

test('one that is no longer present, too', t => {
  const bench = new InterruptBench();
  bench.irte(5, PLAIN);
  bench.interrupt(5);
  bench.irte(5, { ...PLAIN, p: 0 });
  t.deepEqual(bench.interrupt(5), OLD);
  bench.flush();
  t.deepEqual(bench.interrupt(5), { fault: Fault.IR_3 });
});

test('index-selective: exactly 2^IM entries, from the index with its low IM bits cleared', t => {
  for (const [index, mask] of [
    [0, 0],
    [17, 0],
    [16, 1],
    [19, 1],
    [42, 3],
    [63, 4],
    [1, 5],
  ] as const) {
    const bench = staleBench();
    t.true(bench.flush(index, mask));
    const first = index - (index % 2 ** mask);
    t.deepEqual(
      renewed(bench),
      Array.from({ length: 2 ** mask }, (_, i) => first + i),
    );
  }
});

test('global, and the largest mask, take everything', t => {
  const all = Array.from({ length: 64 }, (_, i) => i);
  for (const mask of [undefined, 15]) {
    const bench = staleBench();
    t.true(mask === undefined ? bench.flush() : bench.flush(0x1234, mask));
    t.deepEqual(renewed(bench), all);
  }
});

test('a range that is elsewhere takes nothing, though its entries share slots', t => {
  const bench = new InterruptBench({}, 15);
  bench.irte(5, PLAIN);
  bench.interrupt(5);
  bench.irte(5, CHANGED);
  for (const mask of [0, 2, 8]) t.true(bench.flush(0x4005, mask));
  t.deepEqual(bench.interrupt(5), OLD);
});

test('other invalidations, SRTP, IRE off and on leave it alone', t => {
  const bench = new InterruptBench();
  bench.irte(5, PLAIN);
  bench.interrupt(5);
  bench.irte(5, CHANGED);
  bench.setRoot(bench.page());
  bench.write32(0x18, GlobalCommand.QIE);
  t.deepEqual(bench.message(0xfee0_00b0), { address: 0xfee0_00b0n, data: 0 });
  bench.command(GlobalCommand.IRE);
  t.deepEqual(bench.interrupt(5), OLD);
});

test('without CAP.ESIRTPS a new table needs a global invalidation', t => {
  const bench = new InterruptBench();
  bench.irte(5, PLAIN);
  bench.interrupt(5);
  bench.newTable(7);
  bench.irte(5, CHANGED);
  bench.irte(6, CHANGED);
  t.deepEqual(bench.interrupt(5), OLD);
  t.deepEqual(bench.interrupt(6), NEW, 'what was not cached comes from the new table');
  bench.flush();
  t.deepEqual(bench.interrupt(5), NEW);
});

test('the new table limits indices at once', t => {
  const bench = new InterruptBench();
  bench.irte(5, PLAIN);
  bench.interrupt(5);
  bench.latch(bench.table, 1);
  t.deepEqual(bench.interrupt(5), { fault: Fault.IR_2 });
});

test('reset empties it', t => {
  const bench = new InterruptBench();
  bench.irte(5, PLAIN);
  bench.interrupt(5);
  bench.irte(5, CHANGED);
  bench.unit.reset();
  bench.latch(bench.table, 7);
  bench.command(GlobalCommand.IRE);
  t.deepEqual(bench.interrupt(5), NEW);
});

test('the source is verified at each use of a cached entry', t => {
  const bench = new InterruptBench();
  bench.irte(5, { ...PLAIN, sid: RID, svt: 1 });
  t.deepEqual(bench.interrupt(5), OLD);
  t.deepEqual(bench.interrupt(5, RID ^ 1), { fault: Fault.IR_7 });
  t.deepEqual(bench.interrupt(5), OLD);
});

test('a requester that fails verification does not keep the entry from being cached', t => {
  const bench = new InterruptBench();
  bench.irte(5, { ...PLAIN, sid: RID, svt: 1 });
  t.deepEqual(bench.interrupt(5, RID ^ 1), { fault: Fault.IR_7 });
  bench.irte(5, { ...CHANGED, sid: RID, svt: 1 });
  t.deepEqual(bench.interrupt(5), OLD);
});

test('faulting entries are cached with caching mode only', t => {
  for (const cm of [false, true]) {
    const bench = new InterruptBench({ 'caching-mode': cm });
    bench.irte(1, { ...PLAIN, dlm: 3 });
    t.deepEqual(bench.interrupt(0), { fault: Fault.IR_3 });
    t.deepEqual(bench.interrupt(1), { fault: Fault.IR_5 });
    bench.irte(0, PLAIN);
    bench.irte(1, PLAIN);
    t.deepEqual(bench.interrupt(0), cm ? { fault: Fault.IR_3 } : OLD);
    t.deepEqual(bench.interrupt(1), cm ? { fault: Fault.IR_5 } : OLD);
    bench.flush();
    t.deepEqual(bench.interrupt(0), OLD);
    t.deepEqual(bench.interrupt(1), OLD);
  }
});

test('a descriptor with a mask beyond MHMV or reserved bits is refused, and nothing is invalidated', t => {
  for (const [index, mask] of [
    [5, 16],
    [5, 31],
  ] as const) {
    const bench = staleBench();
    t.false(bench.flush(index, mask));
    t.deepEqual(renewed(bench), []);
  }
});
