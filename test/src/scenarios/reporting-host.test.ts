/** A host that also reports faults of nested page tables (an extension of the simulated kernel's): what a guest does with a device is the same. */
import test from 'ava';
import { scenarios } from '@remora/machines';
import { lived } from './every-back-end.js';

for (const scenario of scenarios.values()) {
  test(`${scenario.name}: with reports of faults and without`, t => {
    const backEnd = scenario.backEnds.find(({ name }) => name === 'iommufd-nested')!;
    const silent = lived(t, scenario, backEnd, 1);
    const reporting = lived(t, scenario, { ...backEnd, kernel: { vtdEvents: true } }, 1);
    t.deepEqual(reporting.seen, silent.seen);
    t.true(reporting.calls('IOMMU_VEVENTQ_ALLOC') > 0);
    t.is(silent.calls('IOMMU_VEVENTQ_ALLOC'), 0);
  });
}
