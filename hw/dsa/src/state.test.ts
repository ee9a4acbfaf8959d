// A saved accelerator goes on where it was. What waits for pages is saved with the vIOMMU that it waits for, in the tests of machines.
import { StateError, StateReader, StateWriter } from '@remora/core';
import test from 'ava';
import { Operation, Reg, Status } from './spec/index.js';
import { descriptor } from './driver/index.js';
import { pattern, PORTALS, RECORD, rig, type Rig } from './rig.test.helper.js';

function moved(from: Rig, to: Rig): Rig {
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

test('configuration, states, errors, and half a descriptor in a portal', t => {
  const from = rig({}, [{}, { size: 3 }]);
  from.driver.submit(1, { operation: Operation.FILL });
  const bytes = descriptor({
    operation: Operation.FILL,
    source: 7,
    destination: 0x20_0000,
    size: 8,
    completion: RECORD,
  });
  from.addressSpace.write(0, PORTALS + 0x4000 + 64, bytes.subarray(0, 40));
  const to = moved(from, rig({}, []));
  for (let offset = 0; offset < 0x900; offset += 4) {
    t.is(to.driver.register(offset), from.driver.register(offset), offset.toString(16));
  }
  t.not(to.driver.register(Reg.SWERR), 0);
  to.addressSpace.write(0, PORTALS + 0x4000 + 64 + 40, bytes.subarray(40));
  t.is(to.driver.completion(RECORD).status, Status.SUCCESS);
  t.is(to.peek(0x20_0000, 1)[0], 7);
  to.poke(0x10_0000, pattern(64));
  t.is(to.run({ operation: Operation.MEMMOVE, source: 0x10_0000, destination: 0x30_0000, size: 64 }).status, 1);
  t.deepEqual(to.peek(0x30_0000, 64), pattern(64));
});

test('the state of another accelerator is refused', t => {
  const from = rig({ 'work-queues': 4 });
  const into = new StateWriter();
  from.device.save(into);
  const to = rig({ 'work-queues': 5 }, []);
  t.throws(() => to.device.load(new StateReader(into.section)), { instanceOf: StateError });
});
