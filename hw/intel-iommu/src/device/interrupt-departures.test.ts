/** Where QEMU 10.2 remaps otherwise (vtd.md 12): each test shows both. */
import test from 'ava';
import { Fault, PostedInterruptEntry } from '../spec/index.js';
import { RID, type Values } from './bench.test.helper.js';
import { InterruptBench, PLAIN, type InterruptOutcome } from './interrupt-bench.test.helper.js';

type Ask = (bench: InterruptBench) => InterruptOutcome;

/** What the specification and what QEMU make of the same. */
function both(ask: Ask, size = 7, extended = false, eim = true): InterruptOutcome[] {
  return (['spec', 'qemu-10.2'] as const).map(compat => ask(new InterruptBench({ eim, compat }, size, extended)));
}

/** Asks for entry 5, which has these values. */
function entry(values: Values, rid = RID): Ask {
  return bench => {
    bench.irte(5, { ...PLAIN, ...values });
    return bench.interrupt(5, rid);
  };
}

const EDGE = { address: 0xfee0_3000n, data: 0x41 };
/** The same with the assert bit. */
const ASSERTED = { address: 0xfee0_3000n, data: 0x4041 };

test('messages that are edge triggered have the assert bit', t => {
  t.deepEqual(both(entry({})), [EDGE, ASSERTED]);
  const level = { address: 0xfee0_3000n, data: 0xc041 };
  t.deepEqual(both(entry({ tm: 1 })), [level, level]);
});

test('compatibility format always passes', t => {
  const passed = { address: 0xfee0_100cn, data: 0x31 };
  const ask: Ask = bench => bench.message(0xfee0_100c, 0x31);
  t.deepEqual(both(ask), [{ fault: Fault.IR_6 }, passed]);
  t.deepEqual(both(ask, 7, true), [{ fault: Fault.IR_6 }, passed]);
});

test('handle and subhandle are added in 16 bits', t => {
  const ask: Ask = bench => {
    bench.irte(1, PLAIN);
    return bench.interrupt(0xffff, RID, 2);
  };
  t.deepEqual(both(ask, 15), [{ fault: Fault.IR_2 }, ASSERTED]);
});

test('a bus range has its last bus in the high byte', t => {
  const range = { sid: 0x2022, svt: 2 };
  t.deepEqual(both(entry(range, 0x2100)), [EDGE, { fault: Fault.IR_7 }]);
  t.deepEqual(both(entry({ sid: 0x2220, svt: 2 }, 0x2100)), [{ fault: Fault.IR_7 }, ASSERTED]);
});

test('the reserved validation type: reserved bits, or no source that passes', t => {
  t.deepEqual(both(entry({ svt: 3 })), [{ fault: Fault.IR_5 }, { fault: Fault.IR_7 }]);
});

test('reserved delivery modes and the unused bits of 8-bit destinations do not matter', t => {
  t.deepEqual(both(entry({ dlm: 3 })), [{ fault: Fault.IR_5 }, { address: 0xfee0_3000n, data: 0x4341 }]);
  t.deepEqual(both(entry({ dst: 0x1234_0356 })), [{ fault: Fault.IR_5 }, ASSERTED]);
});

test('EIME counts without ECAP.EIM', t => {
  t.deepEqual(both(entry({ dst: 0x300 }), 7, true, false), [EDGE, { address: 0x300_fee0_0000n, data: 0x4041 }]);
});

test('a posted entry is taken as a remapped one', t => {
  const ask: Ask = bench => {
    // Bits 15:8 of the descriptor's address are where a remapped entry has its destination.
    bench.irte(5, { p: 1, im: 1, v: 0x41, pdaLow: 0x300 / 64 }, PostedInterruptEntry as never);
    return bench.interrupt(5);
  };
  t.deepEqual(both(ask), [{ fault: Fault.IR_5 }, ASSERTED]);
});

test('requester ff:1f.7 is nobody in particular, and trusted', t => {
  t.deepEqual(both(entry({ sid: 0xff00, svt: 1 }, 0xffff)), [{ fault: Fault.IR_7 }, ASSERTED]);
});

test('nothing is cached', t => {
  const ask: Ask = bench => {
    bench.irte(5, PLAIN);
    bench.interrupt(5);
    bench.irte(5, { ...PLAIN, v: 0x42 });
    return bench.interrupt(5);
  };
  t.deepEqual(both(ask), [EDGE, { address: 0xfee0_3000n, data: 0x4042 }]);
});
