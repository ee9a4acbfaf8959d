// DMA of devices in a machine through tables that programs build and bend: the right bytes move, and nothing else.
import { createMachine, type Machine } from '@remora/machine';
import { owner } from '@remora/testing';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { intelIommu } from '@hw/intel-iommu/config';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { iommuTestdev } from '@hw/iommu-testdev/config';
import iommuTestdevPlugin from '@hw/iommu-testdev/plugin';
import { q35 } from '@hw/q35/config';
import q35Plugin from '@hw/q35/plugin';
import test from 'ava';
import fc from 'fast-check';
import { CONFIGURATIONS } from './configurations.js';
import { Coverage, requireMinimums } from './coverage.js';
import { machinePrograms } from './machine-program.js';
import { MachineRun } from './machine-run.js';

const SEED = 1;
const PROGRAMS = 120;
/** RAM reaches well above 4 GiB, where half of the tables are. */
const MEMORY = 4 * 2 ** 30;

function machineWith(options: (typeof CONFIGURATIONS)[number]['options']): Machine {
  return createMachine(undefined, {
    board: q35({ memory: MEMORY }),
    plugins: [q35Plugin, intelIommuPlugin, iommuTestdevPlugin, dmaEnginePlugin],
    devices: [
      intelIommu({ ...options, 'fault-records': 1 }),
      iommuTestdev({ addr: '04.0' }),
      dmaEngine({ addr: '05.0' }),
    ],
  });
}

/** How many programs saw a thing when this was written; half as many must. */
const MEASURED: Readonly<Record<string, number>> = {
  TE: 120,
  fault: 118,
  'memory changed': 114,
  'moved by iommu-testdev': 67,
  'moved first': 27,
  'moved legacy': 34,
  'moved nested': 20,
  'moved second': 26,
  'no memory': 45,
  'reason 0x03': 7,
  'reason 0x04': 23,
  'reason 0x05': 35,
  'reason 0x07': 9,
  'reason 0x0a': 18,
  'reason 0x0b': 9,
  'reason 0x0c': 7,
  'reason 0x0e': 12,
  'reason 0x39': 6,
  'reason 0x3a': 20,
  'reason 0x41': 7,
  'reason 0x42': 22,
  'reason 0x45': 8,
  'reason 0x46': 10,
  'reason 0x51': 11,
  'reason 0x52': 15,
  'reason 0x59': 7,
  'reason 0x5a': 14,
  'reason 0x70': 8,
  'reason 0x71': 33,
  'reason 0x72': 18,
  'reason 0x78': 10,
  'reason 0x79': 34,
  'reason 0x7a': 15,
  'reason 0x80': 17,
  'reason 0x81': 15,
  'reason 0x83': 7,
  'reason 0x84': 12,
  'reason 0x85': 17,
  'reason 0x87': 8,
  'reason 0x90': 15,
};

test('DMA in a machine moves what the tables say, and faults as they say', t => {
  const own = owner(t);
  const coverage = new Coverage();
  const machines = CONFIGURATIONS.map(({ options }) => own(machineWith(options)));
  for (const machine of machines) machine.start();
  fc.assert(
    fc.property(machinePrograms(CONFIGURATIONS.length), ({ configuration, ...program }) => {
      new MachineRun(machines[configuration]!, CONFIGURATIONS[configuration]!, program.genes, coverage).run(
        program.steps,
      );
      coverage.endProgram();
    }),
    { seed: SEED, numRuns: PROGRAMS, includeErrorInReport: true },
  );
  requireMinimums(t, coverage, MEASURED);
});
