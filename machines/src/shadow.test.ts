import test from 'ava';
import { VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '@remora/uapi';
import type { SimulatedHost } from '@remora/host-sim';
import { StateReader, StateWriter } from '@remora/core';
import { guestOf, openState, restoreMachine, saveState } from '@remora/machine';
import { PHYSICAL_VTD, physicalVtd, plugins, shadow } from './index.js';
import { ioctls, mappedPages, own } from './vfio-pci.test.helper.js';

for (const seed of [1, 2, 77]) {
  test(`the guest of the shadow machine does what it says, with seed ${seed}`, t => {
    const machine = shadow.create({ seed });
    own(t, machine.host!);
    machine.start();
    machine.ledger.on = true;
    const pages: Record<string, number> = {};
    for (const { id, run } of guestOf(shadow, machine, { seed })!.steps) {
      run();
      pages[id] = mappedPages(machine.host!.platform as SimulatedHost)['3f00']!;
    }
    t.deepEqual(pages, {
      start: 0,
      map: 9,
      copy: 9,
      remap: 9,
      'copy-again': 9,
      unmap: 8,
      forget: 8,
      report: 9,
      stop: 0x4000,
    });
    // A run and a page, the page again, what is left of the run, the page in it, and RAM.
    t.is(ioctls(machine.ledger, VFIO_IOMMU_MAP_DMA), 2 + 1 + 2 + 1 + 1);
    t.is(ioctls(machine.ledger, VFIO_IOMMU_UNMAP_DMA), 1 + 1 + 1 + 1);
  });
}

test('its guest goes on from a state file, after any step at which it owes no report', t => {
  const first = shadow.create({ seed: 5 });
  own(t, first.host!);
  first.start();
  const guest = guestOf(shadow, first, { seed: 5 })!;
  const iommus = { [PHYSICAL_VTD]: physicalVtd };
  for (const [index, step] of guest.steps.entries()) {
    const bytes = saveState(first);
    const memory = new StateWriter();
    guest.save!(memory);
    const { machine } = restoreMachine(openState(bytes, 'shadow'), { plugins, iommus });
    own(t, machine.host!);
    const before = mappedPages(first.host!.platform as SimulatedHost)['3f00'];
    if (step.id !== 'report') {
      t.is(mappedPages(machine.host!.platform as SimulatedHost)['3f00'], before, `before ${step.id}`);
      const from = new StateReader(memory.section);
      const rest = guestOf(shadow, machine, { seed: 0 }, from)!.steps.slice(index);
      t.notThrows(() => rest.forEach(each => each.run()), `from ${step.id} on`);
    }
    step.run();
  }
});
