/** The vsva machine on iommufd: the same guest, and it goes on from a state file. */
import test from 'ava';
import { StateReader, StateWriter } from '@remora/core';
import { guestOf, type Machine, openState, restoreMachine, saveState } from '@remora/machine';
import type { VfioPci } from '@hw/vfio-pci';
import { PHYSICAL_VTD, physicalVtd, plugins, vsvaIommufd } from './index.js';
import { own } from './vfio-pci.test.helper.js';

const iommus = { [PHYSICAL_VTD]: physicalVtd };

/** PASIDs that have a nested page table at the host. */
function bound(machine: Machine): number[] {
  const { connection } = machine.device<VfioPci>('vfio-pci');
  return connection !== undefined && 'ioas' in connection ? [...connection.context!.bindings.keys()] : [];
}

for (const seed of [1, 2, 77]) {
  test(`its guest does what it says, with seed ${seed}`, t => {
    const machine = vsvaIommufd.create({ seed });
    own(t, machine.host!);
    machine.start();
    const pasids: Record<string, number[]> = {};
    for (const { id, run } of guestOf(vsvaIommufd, machine, { seed })!.steps) {
      t.notThrows(run, id);
      pasids[id] = bound(machine);
    }
    t.deepEqual(pasids, {
      start: [],
      allocate: [],
      bind: [1],
      copy: [1],
      remap: [1],
      'copy-again': [1],
      unbind: [],
      free: [],
      fault: [],
    });
  });
}

test('after any step it goes on from a state file, on another host', t => {
  const first = vsvaIommufd.create({ seed: 5 });
  own(t, first.host!);
  first.start();
  const guest = guestOf(vsvaIommufd, first, { seed: 5 })!;
  for (const [index, step] of guest.steps.entries()) {
    const file = openState(saveState(first), 'vsva-iommufd');
    t.deepEqual(file.header.machine.objects, [{ driver: 'iommufd', options: { id: 'iommufd0' } }]);
    const memory = new StateWriter();
    guest.save!(memory);
    const { machine } = restoreMachine(file, { plugins, iommus, seed: 9 });
    own(t, machine.host!);
    t.deepEqual(bound(machine), bound(first), `before ${step.id}`);
    const rest = guestOf(vsvaIommufd, machine, { seed: 0 }, new StateReader(memory.section))!.steps.slice(index);
    t.notThrows(() => rest.forEach(each => each.run()), `from ${step.id} on`);
    step.run();
  }
});
