/** A device that a host lends, on every back end: the guest sees the same, and so does its memory. */
import test from 'ava';
import { type BackEnd, scenarios } from '@remora/machines';
import { lived } from './every-back-end.js';

const lend = scenarios.get('lend')!;
const WELL = { ok: true };
const NO_WRITE = { ok: false, failedWrite: true };
const EIGHT = Array.from({ length: 8 });

const EXPECTED = {
  start: { devices: ['intel-iommu', 'lent'] },
  'guest-physical': { copied: WELL, arrived: [1, 2, 3, 4, 5, 6, 7, 8], beyond: false },
  'add memory': { reached: true, arrived: [0x5a, 0x5a, 0x5a, 0x5a], last: true },
  'remove memory': { reached: false, still: true },
  translate: { entries: 0, attached: 0, mapped: NO_WRITE },
  map: { status: 0, reached: EIGHT.map(() => WELL), arrived: [1, 2, 3, 4, 5, 6, 7, 8], beyond: NO_WRITE },
  copy: { copied: WELL, arrived: [8, 7, 6, 5, 4, 3, 2, 1] },
  remap: { unmapped: 0, mapped: 0, reached: WELL, old: true, arrived: [1, 2, 8, 0x77, 5, 8, 7, 8] },
  'read-only': { status: 0, written: NO_WRITE, read: WELL, kept: 0x21, arrived: [0x21, 2, 8, 0x77, 5, 8, 7, 8] },
  unmap: {
    one: 0,
    after: EIGHT.map((_, page) => (page === 1 ? NO_WRITE : WELL)),
    all: [0, 0, 0, 0, 0, 0, 0],
    none: EIGHT.map(() => NO_WRITE),
  },
  detach: { status: 0, reached: NO_WRITE, freed: 0 },
  unplug: { vendor: 0xffff_ffff, devices: ['intel-iommu'] },
  'plug again': { id: 'lent', vendor: 0xd0e0_1f1f },
  'attach again': { attached: 0, mapped: 0, reached: WELL, arrived: 0x42 },
  exit: {},
};

/** What tells the back ends apart: which ioctls each makes, which it does not, and who maps in the kernel. */
const CALLS: Readonly<
  Record<string, { readonly makes: readonly string[]; readonly never: readonly string[]; readonly maps: string }>
> = {
  'vfio-nesting': {
    makes: ['VFIO_GROUP_SET_CONTAINER', 'VFIO_IOMMU_MAP_DMA', 'VFIO_IOMMU_BIND', 'VFIO_IOMMU_CACHE_INVALIDATE'],
    never: ['IOMMU_IOAS_MAP', 'VFIO_DEVICE_BIND_IOMMUFD'],
    maps: 'map',
  },
  'vfio-type1v2': {
    makes: ['VFIO_GROUP_SET_CONTAINER', 'VFIO_IOMMU_MAP_DMA', 'VFIO_IOMMU_UNMAP_DMA'],
    never: ['IOMMU_IOAS_MAP', 'VFIO_IOMMU_BIND'],
    maps: 'map',
  },
  'vfio-compat': {
    makes: ['VFIO_GROUP_SET_CONTAINER', 'VFIO_IOMMU_MAP_DMA', 'VFIO_IOMMU_UNMAP_DMA'],
    never: ['IOMMU_IOAS_MAP', 'VFIO_IOMMU_BIND'],
    maps: 'ioas-map',
  },
  iommufd: {
    makes: ['VFIO_DEVICE_BIND_IOMMUFD', 'IOMMU_IOAS_MAP', 'IOMMU_IOAS_UNMAP'],
    never: ['VFIO_GROUP_SET_CONTAINER', 'VFIO_IOMMU_MAP_DMA', 'IOMMU_HWPT_INVALIDATE'],
    maps: 'ioas-map',
  },
  'iommufd-nested': {
    makes: ['VFIO_DEVICE_BIND_IOMMUFD', 'IOMMU_IOAS_MAP', 'IOMMU_HWPT_ALLOC', 'IOMMU_HWPT_INVALIDATE'],
    never: ['VFIO_GROUP_SET_CONTAINER', 'VFIO_IOMMU_MAP_DMA', 'VFIO_IOMMU_BIND'],
    maps: 'ioas-map',
  },
};

const titled = ({ name, title }: BackEnd): string => `${name}: ${title}`;

test('it runs on every back end', t => {
  t.deepEqual(
    lend.backEnds.map(({ name }) => name),
    Object.keys(CALLS),
  );
});

for (const backEnd of lend.backEnds) {
  for (const seed of [1, 2]) {
    test(`${titled(backEnd)}, with seed ${seed}`, t => {
      const { seen, calls, kernelDid } = lived(t, lend, backEnd, seed);
      t.deepEqual(seen, EXPECTED);
      const { makes, never, maps } = CALLS[backEnd.name]!;
      for (const name of makes) t.true(calls(name) > 0, name);
      for (const name of never) t.is(calls(name), 0, name);
      t.deepEqual(['map', 'ioas-map'].filter(kernelDid), [maps]);
    });
  }
}
