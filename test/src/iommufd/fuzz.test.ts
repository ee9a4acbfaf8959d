/**
 * Processes that ask for anything, on a host whose unit is the real one: registers, queues, and tables in host memory that have to be given back. How
 * many ioctls: REMORA_FUZZ_CALLS; which: REMORA_FUZZ_SEED.
 */
import test from 'ava';
import { createHost } from '@remora/machine';
import { ENGINE, physicalVtd, SECOND_ENGINE } from '@remora/machines';
import { fuzzHost, withoutBusMaster } from '@remora/testing';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';

const CALLS = Number(process.env['REMORA_FUZZ_CALLS'] ?? 30_000);
const SEED = Number(process.env['REMORA_FUZZ_SEED'] ?? 1);
const PAGE = 0x1000;
const MIB = 0x10_0000;

test('whatever processes ask for of a host with a VT-d unit, nothing throws, nothing is left, a fifth succeeds', t => {
  const level = createHost({
    memory: 32 * MIB,
    iommu: physicalVtd({ 'fault-records': 8 }),
    seed: SEED,
    plugins: [dmaEnginePlugin],
    devices: [ENGINE, SECOND_ENGINE].map(addr => dmaEngine({ addr, ats: true, pri: true })),
  });
  t.teardown(() => level[Symbol.dispose]());
  const host = level.platform;
  const started = performance.now();
  const report = fuzzHost(
    {
      process: (name, privileged) => host.process(name, privileged ? undefined : 'alice'),
      dump: () => withoutBusMaster(host.dump()),
      betweenRounds: (_round, random) => {
        host.takeFaults();
        host.knobs.memlock = random.below(3) === 0 ? random.below(40) * PAGE : undefined;
        host.knobs.vtdEvents = random.below(2) === 0;
        host.knobs.vfioContainer = random.below(3) === 0 ? 'iommufd' : 'type1';
      },
    },
    { seed: SEED, calls: CALLS, names: [ENGINE, SECOND_ENGINE], groups: [1, 2], devices: [0, 1] },
  );
  t.log(`${report.calls} ioctls, ${report.succeeded} succeeded, ${Math.round(performance.now() - started)} ms`);
  t.true(report.succeeded >= CALLS / 5);
  for (const name of [
    'IOMMU_HWPT_ALLOC',
    'IOMMU_HWPT_INVALIDATE',
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    'VFIO_IOMMU_MAP_DMA',
  ]) {
    t.true((report.answers.get(name)?.get('ok') ?? 0) > 0, name);
  }
});
