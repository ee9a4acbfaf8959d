/** A guest's own page tables, on the back ends that walk them: the guest sees the same, and so does its memory. */
import test from 'ava';
import { scenarios } from '@remora/machines';
import { lived } from './every-back-end.js';

const share = scenarios.get('share')!;
const WELL = { ok: true };
const EIGHT = Array.from({ length: 8 }, () => true);
/** A base, and the page's number: what the engine wrote to each page. */
const pages = (base: number): number[] => EIGHT.map((_, page) => base + page);
const changed = (list: readonly number[], page: number, value: number): number[] => list.with(page, value);

const FIRST = changed(pages(0x10), 6, 0x11);
const SECOND = changed(pages(0x20), 6, 0x21);
const REMAPPED = changed(FIRST, 2, 0x51);

const EXPECTED = {
  start: { entries: 0 },
  first: { different: 1, mapped: 0, attached: 0, filled: EIGHT, copied: WELL, arrived: [FIRST, []] },
  second: { different: 2, mapped: 0, attached: 0, filled: EIGHT, copied: WELL, arrived: [FIRST, SECOND] },
  remap: { unmapped: 0, mapped: 0, flushed: 0, filled: WELL, old: 0x12, arrived: [REMAPPED, SECOND] },
  'remap many': {
    unmapped: 0,
    mapped: 0,
    flushed: 0,
    filled: EIGHT,
    kept: SECOND,
    arrived: [REMAPPED, pages(0x60)],
  },
  replace: { mapped: 0, replaced: 0, filled: WELL, third: 0x81, arrived: [REMAPPED, pages(0x60)] },
  'replaced table': { unmapped: 0, mapped: 0, flushed: 0, filled: WELL, old: 0x81, arrived: 0x91 },
  unbind: { unbound: 0, reached: [true, false] },
  'unbind the other': { unbound: 0, reached: [false, false] },
  free: { freed: [0, 0] },
  exit: {},
};
/** A page is missing: the guest is asked for it, and the engine goes on. */
const PAGE_FAULT = { waits: true, handled: 1, after: WELL, arrived: 0x71 };

test('it runs on the back ends that nest', t => {
  t.deepEqual(
    share.backEnds.map(({ name }) => name),
    ['vfio-nesting', 'iommufd-nested'],
  );
});

for (const backEnd of share.backEnds) {
  for (const seed of [1, 2]) {
    test(`${backEnd.name}: ${backEnd.title}, with seed ${seed}`, t => {
      const { seen } = lived(t, share, backEnd, seed);
      t.deepEqual(seen, { ...EXPECTED, ...(backEnd.pageRequests ? { 'page fault': PAGE_FAULT } : {}) });
    });
  }
}

test('what one interface does by eight calls, the other does by one; and what it replaces at once, the other cannot', t => {
  const [vfio, iommufd] = share.backEnds.map(backEnd => lived(t, share, backEnd, 1));
  t.is(vfio!.calls('VFIO_IOMMU_CACHE_INVALIDATE', 'remap many'), 8);
  t.is(iommufd!.calls('IOMMU_HWPT_INVALIDATE', 'remap many'), 1);
  t.is(vfio!.calls('VFIO_IOMMU_BIND', 'replace'), 2, 'unbind, bind');
  const { calls } = iommufd!;
  const replacing = [
    'IOMMU_HWPT_ALLOC',
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    'VFIO_DEVICE_DETACH_IOMMUFD_PT',
    'IOMMU_DESTROY',
  ];
  t.deepEqual(
    replacing.map(name => calls(name, 'replace')),
    [1, 1, 0, 1],
  );
  t.deepEqual(
    replacing.map(name => calls(name, 'unbind')),
    [0, 0, 1, 1],
  );
});
