// Each check of what came down to a lending host fails on an account that is spoilt in that one respect.
import test from 'ava';
import type { UnitCounts } from '../observed-unit.js';
import type { CallCount } from './counted-calls.js';
import type { Lending } from './dsa-modes.js';
import { lentChecks } from './lent-verdict.js';

const NAMES = {
  container: { binds: 'VFIO_IOMMU_BIND', flushes: 'VFIO_IOMMU_CACHE_INVALIDATE' },
  iommufd: { binds: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', flushes: 'IOMMU_HWPT_INVALIDATE' },
} as const;

interface Seen {
  binds: CallCount;
  flushes: CallCount;
  flushed: number;
  answered: number;
  responses: number;
  faults: number;
  guest: number;
}

const GOOD: Seen = {
  binds: { made: 3, refused: 0 },
  flushes: { made: 200, refused: 0 },
  flushed: 200,
  answered: 17,
  responses: 17,
  faults: 0,
  guest: 0,
};

function account(descriptors: Record<string, number>, direct: number): UnitCounts {
  const counts = { translated: 0, passed: 0, refused: 0, before: 0, after: 0, direct, asked: direct };
  const remapping = { remapped: 0, blocked: 0, unremapped: 0 };
  const maps = { reads: new Map(), writes: new Map(), descriptors: new Map(Object.entries(descriptors)) };
  return { ...counts, ...remapping, ...maps, faults: [], enabled: true, capabilities: '' };
}

function failing(lending: Lending, seen: Partial<Seen>, shares = true): string[] {
  const { binds, flushes, flushed, answered, responses, faults, guest } = { ...GOOD, ...seen };
  const names = NAMES[lending];
  const calls = new Map([
    [names.binds, binds],
    [names.flushes, flushes],
  ]);
  const unit = account({ 'p-iotlb': flushed, 'page-group-response': answered }, 4500);
  const lent = { lending, unit, calls, faults, pasids: [] };
  return lentChecks(lent, account({ 'page-group-response': responses }, guest), shares)
    .filter(({ ok }) => !ok)
    .map(({ name }) => name);
}

for (const lending of ['container', 'iommufd'] as const) {
  test(`${lending}: as it should be, and spoilt`, t => {
    t.deepEqual(failing(lending, {}), []);
    t.deepEqual(failing(lending, { binds: { made: 2, refused: 0 } }), ['binds']);
    t.deepEqual(failing(lending, { binds: { made: 3, refused: 1 } }), ['binds']);
    t.deepEqual(failing(lending, { flushes: { made: 199, refused: 0 } }), ['flushes']);
    t.deepEqual(failing(lending, { flushes: { made: 200, refused: 1 } }), ['flushes']);
    t.deepEqual(failing(lending, { flushed: 199 }), ['flushes']);
    t.deepEqual(failing(lending, { answered: 16 }), ['pages answered']);
    t.deepEqual(failing(lending, { responses: 18 }), ['pages answered']);
    t.deepEqual(failing(lending, { guest: 1 }), ["guest's unit"]);
    t.deepEqual(failing(lending, { faults: 1 }), ["host's faults"]);
  });
}

test('a kernel that shares no address space binds PASID 0, where that can be bound', t => {
  t.deepEqual(failing('iommufd', { binds: { made: 1, refused: 0 } }, false), []);
  t.deepEqual(failing('iommufd', { binds: { made: 0, refused: 0 } }, false), ['binds']);
});
