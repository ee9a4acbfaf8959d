/** Interrupt remapping. */
import { Fault, PostedInterruptEntry } from '../../spec/index.js';
import { RID, type Values } from '../bench.test.helper.js';
import { InterruptBench, PLAIN, type InterruptOutcome } from '../interrupt-bench.test.helper.js';
import type { Departures, Profile } from './departure.test.helper.js';

const EDGE = { address: 0xfee0_3000n, data: 0x41 };
/** The same with the assert bit. */
const ASSERTED = { address: 0xfee0_3000n, data: 0x4041 };
const LEVEL = { address: 0xfee0_3000n, data: 0xc041 };

function benchOf(profile: Profile, size = 7, extended = false, eim = true): InterruptBench {
  return new InterruptBench({ ...profile, eim }, size, extended);
}

/** What becomes of a request for an entry with these values. */
function entry(bench: InterruptBench, values: Values, rid = RID): InterruptOutcome {
  bench.irte(5, { ...PLAIN, ...values });
  bench.flush();
  return bench.interrupt(5, rid);
}

export const INTERRUPTS: Departures = {
  messagesAlwaysAssert: {
    what: 'messages that are edge triggered have the assert bit',
    program: profile => [entry(benchOf(profile), {}), entry(benchOf(profile), { tm: 1 })],
    spec: [EDGE, LEVEL],
    qemu: [ASSERTED, LEVEL],
  },
  compatibilityAlwaysPasses: {
    what: 'compatibility format passes, whatever CFI and EIME say',
    program: profile => [false, true].map(extended => benchOf(profile, 7, extended).message(0xfee0_100c, 0x31)),
    spec: [{ fault: Fault.IR_6 }, { fault: Fault.IR_6 }],
    qemu: [
      { address: 0xfee0_100cn, data: 0x31 },
      { address: 0xfee0_100cn, data: 0x31 },
    ],
  },
  interruptIndexWraps: {
    what: 'handle and subhandle are added in 16 bits',
    program: profile => {
      const bench = benchOf(profile, 15);
      bench.irte(1, PLAIN);
      return bench.interrupt(0xffff, RID, 2);
    },
    spec: { fault: Fault.IR_2 },
    qemu: ASSERTED,
  },
  interruptBusesSwapped: {
    what: 'a bus range has its last bus in the high byte',
    program: profile => [0x2022, 0x2220].map(sid => entry(benchOf(profile), { sid, svt: 2, tm: 1 }, 0x2100)),
    spec: [LEVEL, { fault: Fault.IR_7 }],
    qemu: [{ fault: Fault.IR_7 }, LEVEL],
  },
  interruptEncodingsChecked: {
    what: 'reserved validation types and delivery modes and the unused bits of 8-bit destinations are no reserved bits',
    program: profile => [
      entry(benchOf(profile), { svt: 3 }),
      entry(benchOf(profile), { dlm: 3, tm: 1 }),
      entry(benchOf(profile), { dst: 0x1234_0356, tm: 1 }),
    ],
    spec: [{ fault: Fault.IR_5 }, { fault: Fault.IR_5 }, { fault: Fault.IR_5 }],
    qemu: [{ fault: Fault.IR_7 }, { address: 0xfee0_3000n, data: 0xc341 }, LEVEL],
  },
  extendedInterruptsAlways: {
    what: 'EIME counts without ECAP.EIM',
    program: profile => entry(benchOf(profile, 7, true, false), { dst: 0x300, tm: 1 }),
    spec: LEVEL,
    qemu: { address: 0x300_fee0_0000n, data: 0xc041 },
  },
  postedAsRemapped: {
    what: 'an entry in posted format is taken as one in remapped format',
    program: profile => {
      const bench = benchOf(profile);
      // Bits 15:8 of the descriptor's address are where a remapped entry has its destination.
      bench.irte(5, { p: 1, im: 1, v: 0x41, pdaLow: 0x300 / 64 }, PostedInterruptEntry as never);
      return bench.interrupt(5);
    },
    spec: { fault: Fault.IR_5 },
    qemu: ASSERTED,
  },
  unknownSourceTrusted: {
    what: 'requester ff:1f.7 is nobody in particular, and trusted',
    program: profile => entry(benchOf(profile), { sid: 0xff00, svt: 1, tm: 1 }, 0xffff),
    spec: { fault: Fault.IR_7 },
    qemu: LEVEL,
  },
  interruptEntriesCached: {
    what: 'an entry counts as it is, without invalidation',
    program: profile => {
      const bench = benchOf(profile);
      bench.irte(5, { ...PLAIN, tm: 1 });
      bench.interrupt(5);
      bench.irte(5, { ...PLAIN, tm: 1, v: 0x42 });
      return bench.interrupt(5);
    },
    spec: LEVEL,
    qemu: { address: 0xfee0_3000n, data: 0xc042 },
  },
};
