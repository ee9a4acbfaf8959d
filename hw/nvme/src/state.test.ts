// A saved controller goes on where it was.
import { StateError, StateReader, StateWriter } from '@remora/core';
import test from 'ava';
import { pattern, type Rig, rig } from './rig.test.helper.js';
import { AdminOpcode, Cns, FeatureId, IoOpcode, LogPage, Reg } from './spec/index.js';
import type { NvmeOptions } from './config.js';

const EVENT = { opcode: AdminOpcode.ASYNC_EVENT_REQUEST };
const FLUSH = { opcode: IoOpcode.FLUSH, nsid: 1 };

/** A second machine with the first one's state: memory, configuration space and controller. The driver is the first one's. */
function moved(from: Rig, options: NvmeOptions = {}): Rig {
  const to = rig(options, { start: false });
  const memory = new Uint8Array(0x40_0000);
  from.addressSpace.read(0, 0, memory);
  to.addressSpace.write(0, 0, memory);
  const fn = new StateWriter();
  from.device.fn.save(fn);
  to.device.fn.load(new StateReader(fn.section));
  const into = new StateWriter();
  from.device.save(into);
  const reader = new StateReader(into.section);
  to.device.load(reader);
  reader.done();
  return to;
}

test('queues, phases, what waits for room, requests and events, masks, features, logs and contents', t => {
  const from = rig();
  from.enableMsi(1);
  const { driver } = from;
  driver.write(100, pattern(512 * 300));
  driver.createQueues(2, { entries: 4, vector: 1 });
  for (let count = 0; count < 5; count++) driver.expect(2, FLUSH);
  driver.submit(2, FLUSH, FLUSH, FLUSH);
  driver.submit(2, FLUSH, FLUSH);
  driver.submit(0, EVENT);
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  driver.setRegister(Reg.DOORBELLS + 8, 0xffff);
  driver.poll(0);
  driver.submit(0, EVENT, EVENT);
  driver.setRegister(Reg.INTMS, 2);
  driver.expect(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ARBITRATION, cdw11: 0x0101_0103 });
  driver.run(0, { opcode: 0x77 });
  const to = moved(from);
  to.sent();
  // The driver's own state goes with the memory that it is about: it drives the second machine.
  for (const [name, act] of [
    [
      'registers',
      (each: Rig) => [Reg.CC, Reg.CSTS, Reg.AQA, Reg.ASQ, Reg.ACQ, Reg.INTMS].map(at => each.driver.register(at)),
    ],
  ] as const)
    t.deepEqual(act(to), act(from), name);
  const take = (each: Rig): void => each.driver.setRegister(Reg.DOORBELLS + 20, 0);
  take(to);
  take(from);
  const memory = (each: Rig): Uint8Array => each.driver.peek(0x10_0000, 0x20_0000);
  t.is(Buffer.compare(memory(to), memory(from)), 0, 'the commands that waited');
  to.driver.setRegister(Reg.INTMC, 2);
  t.deepEqual(to.sent(), [1]);
  const again = (each: Rig) => {
    each.driver.enable();
    each.driver.createQueues(1);
    return [
      each.driver.read(100, 300),
      each.driver.logPage(LogPage.ERROR, 4096),
      each.driver.logPage(LogPage.SMART, 512),
      each.driver.identify(Cns.NAMESPACE, 1),
    ];
  };
  t.deepEqual(again(to), again(from));
});

test('a namespace that Format NVM changed, a timestamp, hours and a temperature warning', t => {
  const from = rig();
  from.driver.expect(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1, cdw10: 1 });
  from.driver.write(3, pattern(4096), 4096);
  from.clock.step(2 * 3600e9);
  const to = moved(from);
  to.clock.step(3600e9);
  to.driver.enable();
  to.driver.createQueues(1);
  t.deepEqual(to.driver.read(3, 1, 4096), pattern(4096));
  t.is(new DataView(to.driver.logPage(LogPage.SMART, 512).buffer).getBigUint64(128, true), 3n);
});

test('a state of another controller is refused', t => {
  const into = new StateWriter();
  rig({ max_ioqpairs: 3, msi: false, msix_qsize: 3 }).device.save(into);
  t.throws(() => rig().device.load(new StateReader(into.section)), { instanceOf: StateError });
  const small = new StateWriter();
  const from = rig({ size: '8M' });
  from.driver.write(16383, pattern(512));
  from.device.save(small);
  t.throws(() => rig().device.load(new StateReader(small.section)), {
    instanceOf: StateError,
    message: /blocks\[0\].index/,
  });
  const bad = new StateWriter();
  from.device.save(bad);
  const queues = bad.section.fields.get('queues') as { fields: Map<string, unknown> };
  queues.fields.set('completion', []);
  t.throws(() => rig({ size: '8M' }).device.load(new StateReader(bad.section)), {
    instanceOf: StateError,
    message: /queues.submission\[0\].completions: 0 found, which is no completion queue/,
  });
});
