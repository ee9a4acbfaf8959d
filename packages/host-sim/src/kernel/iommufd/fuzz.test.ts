/**
 * Processes that ask for anything, of /dev/iommu, containers, groups and devices, on two vendors' units. REMORA_FUZZ_CALLS says how many ioctls are made
 * in place of a few ten thousand, REMORA_FUZZ_SEED which.
 */
import test from 'ava';
import { Random } from '@remora/bits';
import { Errno } from '@remora/core';
import { FakeIommuDriver, FakeSmmuDriver, fuzzHost, type FuzzReport, withoutBusMaster } from '@remora/testing';
import { bench, ENGINE, gadget, SECOND } from '../../bench.test.helper.js';

const CALLS = Number(process.env['REMORA_FUZZ_CALLS'] ?? 60_000);
const SEED = Number(process.env['REMORA_FUZZ_SEED'] ?? 1);
const PAGE = 0x1000;

/** From so many ioctls on the rare answers must have come, too. */
const ALL_ANSWERS = 1_000_000;

/**
 * What each ioctl is documented to answer (peers.md 3.4, vsva.md 3, and what Linux 7.3.4 says); in brackets what is rare. Not here: ENOMEM of
 * IOAS_CHANGE_PROCESS and what is refused where memory or descriptors run out, which other tests provoke.
 */
const DOCUMENTED: Readonly<Record<string, string>> = {
  IOMMU_DESTROY: 'ok E2BIG EBUSY EFAULT EINVAL ENOENT',
  IOMMU_FAULT_QUEUE_ALLOC: 'ok (E2BIG) EFAULT (EINVAL) EOPNOTSUPP',
  IOMMU_GET_HW_INFO: 'ok (E2BIG) EFAULT (EINVAL) ENOENT EOPNOTSUPP',
  IOMMU_HWPT_ALLOC: 'ok (E2BIG) (EADDRINUSE) EFAULT EINVAL (EIO) ENOENT (ENOMEM) EOPNOTSUPP',
  IOMMU_HWPT_GET_DIRTY_BITMAP: '(ok) (E2BIG) (EFAULT) (EINVAL) ENOENT EOPNOTSUPP',
  IOMMU_HWPT_INVALIDATE: 'ok (E2BIG) EFAULT EINVAL (EIO) ENOENT (EOPNOTSUPP)',
  IOMMU_HWPT_SET_DIRTY_TRACKING: '(ok) (E2BIG) (EFAULT) (EINVAL) ENOENT EOPNOTSUPP',
  IOMMU_HW_QUEUE_ALLOC: '(ok) (E2BIG) (EEXIST) (EFAULT) (EINVAL) (EIO) ENOENT (EOPNOTSUPP) (EOVERFLOW)',
  IOMMU_IOAS_ALLOC: 'ok (E2BIG) EFAULT EINVAL EOPNOTSUPP',
  IOMMU_IOAS_ALLOW_IOVAS: 'ok (E2BIG) (EADDRINUSE) EFAULT EINVAL ENOENT EOPNOTSUPP',
  IOMMU_IOAS_CHANGE_PROCESS: 'ok (E2BIG) EFAULT EINVAL EOPNOTSUPP',
  IOMMU_IOAS_COPY: 'ok (E2BIG) EEXIST EFAULT EINVAL ENOENT (ENOMEM) (ENOSPC) EOPNOTSUPP (EOVERFLOW) EPERM',
  IOMMU_IOAS_IOVA_RANGES: 'ok (E2BIG) EFAULT (EINVAL) EMSGSIZE ENOENT EOPNOTSUPP',
  IOMMU_IOAS_MAP: 'ok E2BIG EEXIST EFAULT EINVAL ENOENT (ENOMEM) (ENOSPC) EOPNOTSUPP EOVERFLOW',
  IOMMU_IOAS_MAP_FILE: 'ok (E2BIG) (ENODEV) EBADF EEXIST EFAULT EINVAL ENOENT (ENOMEM) (ENOSPC) EOPNOTSUPP (EOVERFLOW)',
  IOMMU_IOAS_NOIOMMU_GET_PA: '(ok) (E2BIG) (EFAULT) (EINVAL) ENOENT EOPNOTSUPP (EOVERFLOW)',
  IOMMU_IOAS_UNMAP: 'ok E2BIG (EBUSY) EFAULT EINVAL ENOENT EOVERFLOW',
  IOMMU_OPTION: 'ok (E2BIG) (EADDRINUSE) EBUSY EFAULT EINVAL ENOENT EOPNOTSUPP EPERM',
  IOMMU_VDEVICE_ALLOC: '(ok) (E2BIG) (EEXIST) (EFAULT) (EINVAL) ENOENT',
  IOMMU_VEVENTQ_ALLOC: '(ok) (E2BIG) (EEXIST) (EFAULT) (EINVAL) ENOENT EOPNOTSUPP',
  IOMMU_VFIO_IOAS: 'ok (E2BIG) EFAULT (EINVAL) ENODEV ENOENT EOPNOTSUPP',
  IOMMU_VIOMMU_ALLOC: 'ok (E2BIG) (EFAULT) (EINVAL) ENOENT EOPNOTSUPP',
  VFIO_DEVICE_BIND_IOMMUFD: 'ok (EBADF) (EBADFD) EBUSY EFAULT EINVAL',
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: 'ok (EADDRINUSE) (ENODEV) (EBUSY) EFAULT EINVAL ENOENT (ENOMEM)',
  VFIO_DEVICE_DETACH_IOMMUFD_PT: 'ok (EFAULT) EINVAL',
  VFIO_GET_API_VERSION: 'ok',
  VFIO_CHECK_EXTENSION: 'ok ENODEV',
  VFIO_SET_IOMMU: 'ok (EADDRINUSE) (EBUSY) EINVAL ENODEV',
  VFIO_IOMMU_GET_INFO: 'ok (EFAULT) EINVAL ENODEV',
  VFIO_IOMMU_MAP_DMA: 'ok (EEXIST) EFAULT EINVAL ENODEV (ENOMEM) (ENOSPC) (EOVERFLOW)',
  VFIO_IOMMU_UNMAP_DMA: 'ok EFAULT EINVAL ENODEV (ENOENT) (EOVERFLOW)',
  VFIO_IOMMU_PASID_REQUEST: '(ok) (EACCES) (EFAULT) EINVAL (ENOENT) (ENOSPC) ENOTTY',
  VFIO_IOMMU_BIND: '(ok) (EACCES) (EFAULT) EINVAL (ENOENT) ENOTTY',
  VFIO_IOMMU_CACHE_INVALIDATE: '(ok) (EFAULT) EINVAL ENOTTY',
  VFIO_GROUP_GET_STATUS: 'ok (EFAULT) (EINVAL)',
  VFIO_GROUP_SET_CONTAINER: 'ok EBADF (EFAULT) EINVAL',
  VFIO_GROUP_UNSET_CONTAINER: 'ok EBUSY (EINVAL)',
  VFIO_GROUP_GET_DEVICE_FD: 'ok (EADDRINUSE) EBUSY EFAULT EINVAL ENODEV',
  VFIO_DEVICE_GET_INFO: 'ok (EFAULT) (EINVAL)',
  VFIO_DEVICE_GET_REGION_INFO: 'ok (EFAULT) EINVAL',
  VFIO_DEVICE_GET_IRQ_INFO: 'ok (EFAULT) EINVAL',
  VFIO_DEVICE_SET_IRQS: 'ok EFAULT EINVAL ENOTTY',
  VFIO_DEVICE_RESET: 'ok',
  VFIO_DEVICE_FEATURE: 'ok (EFAULT) EINVAL ENODEV ENOTTY (EOPNOTSUPP)',
};

/** What the unit refuses once in a round where it refuses anything. */
const REFUSED = [
  'map',
  'mapFrames',
  'unmap',
  'createDomain',
  'createPaging',
  'createNested',
  'attach',
  'bindPasid',
  'invalidate',
] as const;

function fuzzed(driver: FakeIommuDriver, calls: number, fails?: () => number): FuzzReport {
  const refusals = fails !== undefined;
  const failures = fails ?? (() => 0);
  const { host, ...rest } = bench({ driver, failures, devices: [gadget(ENGINE), gadget(SECOND)] });
  // The firmware gave registers addresses, so that others can reach them.
  [ENGINE, SECOND].forEach((bdf, index) => {
    host.function(bdf).config.write(0x10, 0xe000_0000 + 0x1_0000 * index, 4);
    host.function(bdf).config.write(4, 2, 2);
  });
  try {
    return fuzzHost(
      {
        process: (name, privileged) => host.process(name, privileged ? undefined : 'alice'),
        dump: () => ({ ...withoutBusMaster(host.dump()), unit: driver.state() }),
        betweenRounds: (_round, random) => {
          driver.calls.length = 0;
          driver.forgive();
          if (refusals) for (const op of REFUSED) driver.fail(op, Errno.EIO, 1 + random.below(30));
          host.knobs.memlock = random.below(3) === 0 ? random.below(40) * PAGE : undefined;
          host.knobs.dmaEntryLimit = random.below(3) === 0 ? random.below(4) : 65535;
          host.knobs.pasidQuota = random.below(3) === 0 ? random.below(3) : 1000;
          host.knobs.noiommu = random.below(2) === 0;
          host.knobs.vfioContainer = random.below(3) === 0 ? 'iommufd' : 'type1';
        },
      },
      { seed: SEED, calls, names: [ENGINE, SECOND], groups: [1, 2], devices: [0, 1] },
    );
  } finally {
    rest[Symbol.dispose]();
  }
}

function merged(...reports: readonly FuzzReport[]): Map<string, Map<string, number>> {
  const all = new Map<string, Map<string, number>>();
  for (const { answers } of reports) {
    for (const [name, of] of answers) {
      const into = all.get(name) ?? new Map<string, number>();
      all.set(name, into);
      for (const [answer, count] of of) into.set(answer, (into.get(answer) ?? 0) + count);
    }
  }
  return all;
}

test('the same where one allocation in thirty fails, and the unit refuses now and then', t => {
  const random = new Random(SEED);
  let failed = 0;
  const failures = (): number => (random.below(30) === 0 ? -[Errno.ENOMEM, Errno.ENOSPC][failed++ % 2]! : 0);
  const units = [new FakeIommuDriver(), new FakeSmmuDriver({ queues: 2 })];
  const reports = units.map(unit => fuzzed(unit, CALLS / 6, failures));
  t.true(reports.every(({ succeeded }) => succeeded >= CALLS / 30));
  t.true(failed > 0);
});

test('whatever processes ask for, nothing throws, nothing is left, a fifth succeeds', t => {
  const started = performance.now();
  const reports = [fuzzed(new FakeIommuDriver(), CALLS / 2), fuzzed(new FakeSmmuDriver({ queues: 2 }), CALLS / 2)];
  const calls = reports.reduce((sum, report) => sum + report.calls, 0);
  const succeeded = reports.reduce((sum, report) => sum + report.succeeded, 0);
  const answers = merged(...reports);
  t.log(
    `${calls} ioctls, ${succeeded} succeeded, ${reports[0]!.rounds + reports[1]!.rounds} rounds, ${Math.round(performance.now() - started)} ms`,
  );
  if (calls >= ALL_ANSWERS) {
    for (const [name, of] of [...answers].sort()) t.log(name, JSON.stringify(Object.fromEntries([...of].sort())));
  }
  t.true(succeeded >= calls / 5);
  const expected = Object.entries(DOCUMENTED).flatMap(([name, text]) =>
    text.split(' ').map(word => ({ name, answer: word.replace(/[()]/g, ''), rare: word.startsWith('(') })),
  );
  const missing = expected.filter(({ name, answer, rare }) =>
    rare && calls < ALL_ANSWERS ? false : answers.get(name)?.get(answer) === undefined,
  );
  t.deepEqual(missing, []);
  t.deepEqual([...answers.keys()].sort(), Object.keys(DOCUMENTED).sort());
});
