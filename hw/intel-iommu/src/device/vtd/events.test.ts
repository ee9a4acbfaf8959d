/** vtd.md 1.8 (the common event machine), 1.10, 1.11 and 6.3: the three event interrupts, step by step. */
import test from 'ava';
import { ATS, pageRequest } from '../ats-bench.test.helper.js';
import { type Bench, legacyBench, scalableBench } from '../bench.test.helper.js';

const FSTS = 0x34;
const IM = 0x8000_0000;
const IP = 0x4000_0000;
const FRCD_F = 0x22c;
/** Conditions of the fault event, by name: the bits of FSTS. */
const CONDITIONS = { PFO: 0x01, PPF: 0x02, IQE: 0x10, ICE: 0x20, ITE: 0x40 } as const;

interface Machine {
  readonly name: string;
  /** Control register; data and address follow. */
  readonly control: number;
  /** Makes the event happen once. */
  cause(bench: Bench): void;
  /** Services all that it stood for. */
  service(bench: Bench): void;
}

const MACHINES: readonly Machine[] = [
  {
    name: 'FECTL',
    control: 0x38,
    cause: bench => bench.fault(0x1000),
    service: bench => bench.write32(FRCD_F, 0x8000_0000),
  },
  {
    name: 'IECTL',
    control: 0xa0,
    cause: bench => bench.submitWords(Int32Array.of(0x15, 0, 0, 0)),
    service: bench => bench.write32(0x9c, 1),
  },
  {
    name: 'PECTL',
    control: 0xe0,
    cause: bench => bench.unit.pageRequest(pageRequest(0x1000)),
    service: bench => bench.write32(0xdc, 3),
  },
];

function machineBench({ name, control }: Machine): Bench {
  const { bench } = name === 'PECTL' ? scalableBench(ATS, {}, { pre: 1 }) : legacyBench();
  if (name === 'PECTL') bench.write64(0xd0, BigInt(bench.page() * 4096));
  else bench.enableQueue(false);
  bench.write32(control + 4, 0x31);
  bench.write32(control + 8, 0xfee0_2004);
  return bench;
}

const MESSAGE = { address: 0xfee0_2004, data: 0x31 };

for (const machine of MACHINES) {
  const { name, control, cause, service } = machine;

  test(`1.8 event rule 2: ${name}: unmasked, the message goes out and IP is clear`, t => {
    const bench = machineBench(machine);
    bench.write32(control, 0);
    cause(bench);
    t.deepEqual(bench.messages, [MESSAGE]);
    t.is(bench.read32(control), 0);
  });

  test(`1.8 event rules 1 to 3: ${name}: masked, IP stays; unmasking sends once and clears it`, t => {
    const bench = machineBench(machine);
    cause(bench);
    t.is(bench.read32(control), IM + IP);
    bench.write32(control, IM);
    t.is(bench.read32(control), IM + IP, 'a write changes IM only');
    bench.write32(control, 0);
    t.deepEqual(bench.messages, [MESSAGE]);
    t.is(bench.read32(control), 0);
    bench.write32(control, IM);
    bench.write32(control, 0);
    t.is(bench.messages.length, 1);
  });

  test(`1.8 event rule 3: ${name}: software cannot set IP`, t => {
    const bench = machineBench(machine);
    bench.write32(control, IP);
    t.is(bench.read32(control), 0);
    t.deepEqual(bench.messages, []);
  });

  test(`1.8 event rule 4: ${name}: what is serviced while pending clears IP and is never sent`, t => {
    const bench = machineBench(machine);
    cause(bench);
    service(bench);
    t.is(bench.read32(control), IM);
    bench.write32(control, 0);
    t.deepEqual(bench.messages, []);
    cause(bench);
    t.deepEqual(bench.messages, [MESSAGE], 'and the next event is a new one');
  });

  test(`1.8 event rule 5: ${name}: data and address are those at the time of sending`, t => {
    const bench = machineBench(machine);
    cause(bench);
    bench.write32(control + 4, 0x99);
    bench.write32(control + 8, 0xfee0_7000);
    bench.write32(control, 0);
    t.deepEqual(bench.messages, [{ address: 0xfee0_7000, data: 0x99 }]);
  });

  test(`1.8 event rule 1: ${name}: no second event before the first is serviced`, t => {
    const bench = machineBench(machine);
    bench.write32(control, 0);
    cause(bench);
    cause(bench);
    t.is(bench.messages.length, 1);
    service(bench);
    bench.write32(FSTS, 1);
    cause(bench);
    t.is(bench.messages.length, 2);
  });
}

test('1.8: fault event: each condition that becomes 1 while all others are 0 is an event, and no other is', t => {
  // Causes that a unit without device TLBs has; every condition can be pending before.
  const causes: Readonly<Record<string, (bench: Bench) => void>> = {
    PPF: bench => bench.fault(0x1000),
    IQE: bench => bench.submitWords(new Int32Array(8)),
  };
  for (const [name, cause] of Object.entries(causes)) {
    for (const [other, bit] of [['nothing', 0] as const, ...Object.entries(CONDITIONS)]) {
      if (other === name || other === 'PFO') continue;
      // A queue that stopped before cannot stop again.
      if (name === 'IQE' && other === 'ITE') continue;
      const bench = machineBench(MACHINES[0]!);
      bench.write32(0x38, 0);
      bench.unit.registers.set(FSTS, bit);
      cause(bench);
      t.is(bench.messages.length, bit === 0 ? 1 : 0, `${name} after ${other}`);
      t.is(bench.read32(FSTS), CONDITIONS[name as 'PPF'] | bit);
    }
  }
});

test('1.8, 6.1 step 1: while PFO is pending a fault leaves no record and no event', t => {
  const bench = machineBench(MACHINES[0]!);
  bench.write32(0x38, 0);
  bench.unit.registers.set(FSTS, CONDITIONS.PFO);
  t.is(bench.fault(0x1000), 6);
  t.deepEqual([bench.read32(FSTS), bench.messages.length, bench.read32(FRCD_F)], [1, 0, 0]);
});

test('1.8 event rule 4: IP of FECTL stays until the last condition is cleared, whichever that is', t => {
  for (const last of ['PPF', 'IQE'] as const) {
    const bench = machineBench(MACHINES[0]!);
    bench.fault(0x1000);
    bench.submitWords(new Int32Array(8));
    t.is(bench.read32(0x38), IM + IP);
    const clear = {
      PPF: () => bench.write32(FRCD_F, 0x8000_0000),
      IQE: () => bench.recover(),
    };
    clear[last === 'PPF' ? 'IQE' : 'PPF']();
    t.is(bench.read32(0x38), IM + IP, `${last} is still pending`);
    clear[last]();
    t.is(bench.read32(0x38), IM);
  }
});

test('1.10: a wait with IF while IWC is set does nothing more', t => {
  const bench = machineBench(MACHINES[1]!);
  const wait = Int32Array.of(0x15, 0, 0, 0);
  bench.write32(0xa0, 0);
  bench.submitWords(wait);
  bench.write32(0xa0, IM);
  bench.submitWords(wait);
  t.deepEqual([bench.read32(0x9c), bench.read32(0xa0), bench.messages.length], [1, IM, 1]);
});

test("1.8 event rule 6: the unit's own messages are not remapped", t => {
  const { bench } = legacyBench({ intremap: true });
  bench.command(0x0200_0000);
  bench.write32(0x3c, 0x31);
  // In remappable format, as a request of a device it would be blocked.
  bench.write32(0x40, 0xfee0_0010);
  bench.write32(0x38, 0);
  bench.fault(0x1000);
  t.deepEqual(bench.messages, [{ address: 0xfee0_0010, data: 0x31 }]);
  t.is(bench.read64(0x228), 0xc000_0006_0000_0113n, 'and leaves no fault of its own');
});
