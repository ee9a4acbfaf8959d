/** What nobody can be told of is asked for once more. */
import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { bench } from '../bench.test.helper.js';
import { container, vmOn, stage1 } from '../vm.test.helper.js';

for (const op of ['detach', 'unbindPasid'] as const) {
  test(`a unit that refuses ${op} once while a process ends: the device is let go of all the same`, t => {
    const made = owner(t)(bench());
    const vm = vmOn(made);
    const { context } = container(vm);
    const pasid = context!.pasidAlloc(1, 0xfffff);
    t.is(context!.bindStage1(0, pasid, stage1(0x1000)), 0);
    made.driver.fail(op, Errno.EIO);
    vm.process[Symbol.dispose]();
    t.is(made.driver.domains.size, 0);
    t.true(container(vmOn(made, 'vm1')).groups.size > 0, 'the next one has it');
  });
}

test('one that refuses for good is in the ledger', t => {
  const made = owner(t)(bench());
  made.host.ledger.on = true;
  const vm = vmOn(made);
  container(vm);
  for (const nth of [1, 2]) made.driver.fail('detach', Errno.EIO, nth);
  t.throws(() => vm.process[Symbol.dispose](), { message: /still has devices/ }, 'the fake unit has no other way');
  const notes = made.host.ledger.events.filter(({ data }) => data['operation'] === 'detach');
  t.deepEqual(
    notes.map(({ data }) => data['result']),
    [-Errno.EIO],
  );
});
