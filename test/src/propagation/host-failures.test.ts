/**
 * Everything that a machine's life asks of its host fails once: calls, allocations in the kernel, and some of the physical unit's accesses to
 * memory. What the guest is told is what the architecture has for it; what was in force before is in force; trying again works; and nothing
 * is left on the host in the end.
 */
import test from 'ava';
import { assertFailNth, FailurePoints, GOES_WITHOUT } from '@remora/testing';
import type { Placement } from '../rig/rig.js';
import { Life } from './life.js';

interface Arrangement {
  readonly title: string;
  readonly functions: readonly Placement[];
  /** So many points of failure a life has at least. */
  readonly points: number;
  /** Several containers are told one after the other: those before the one that fails keep what they did. */
  readonly stepwise?: true;
}

const arrangements: readonly Arrangement[] = [
  { title: 'one device', functions: [{ addr: '03.0' }], points: 125 },
  { title: 'two devices in one container', functions: [{ addr: '03.0' }, { addr: '04.0' }], points: 138 },
  {
    title: 'two devices in two containers',
    functions: [
      { addr: '03.0', container: 'new' },
      { addr: '04.0', container: 'new' },
    ],
    points: 180,
    stepwise: true,
  },
];

/** Without these a device, or nesting, can still be had; what is not bound at once is bound at the next sync. */
const DISPENSABLE = new Set([
  'VFIO_CHECK_EXTENSION',
  'VFIO_DEVICE_GET_REGION_INFO',
  'VFIO_DEVICE_GET_IRQ_INFO',
  'VFIO_DEVICE_RESET',
  'VFIO_IOMMU_BIND',
  // Of the same bind, in the kernel.
  'allocate kernel pages',
]);

for (const { title, functions, points, stepwise } of arrangements) {
  test(`undisturbed, ${title}: what is seen after each step`, t => {
    using life = new Life(functions, new FailurePoints(), stepwise);
    for (const step of life.steps) {
      t.is(step.run(), 'all is well', step.name);
      t.is(life.look(), step.sees, step.name);
    }
  });

  test(`each point of failure: ${title}`, t => {
    const report = assertFailNth(t, {
      name: title,
      minimum: points,
      begin: ports => new Life(functions, ports, stepwise),
    });
    const dispensed = report.outcomes.filter(({ told }) => told === GOES_WITHOUT).map(({ name }) => name);
    t.deepEqual(
      [...new Set(dispensed)].filter(name => !DISPENSABLE.has(name)),
      [],
    );
  });
}
