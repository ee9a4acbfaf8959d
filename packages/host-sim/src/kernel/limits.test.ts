/** What a container refuses although there is memory: reserved IOVAs, a narrow width, too many mappings. */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import {
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_TYPE1v2_IOMMU,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIovaRange,
  viewOf,
} from '@remora/uapi';
import { bench, mapped, ready } from '../bench.test.helper.js';
import type { KernelKnobs } from './knobs.js';

interface Fixture {
  map(iova: number | bigint, size: number | bigint): number;
  unmap(iova: number, size: number): number;
  /** IOVA ranges, both ends included, and mappings available, as GET_INFO tells them. */
  told(): { ranges: [bigint, bigint][]; available: number };
}

function fixture(t: ExecutionContext, kernel: Partial<KernelKnobs>): Fixture {
  const own = owner(t);
  const { host } = own(bench({ kernel }));
  const process = host.process('vmm');
  const { container } = ready(process, VFIO_TYPE1v2_IOMMU, 1);
  const memory = mapped(process, 0x10_0000);
  return {
    map: (iova, size) =>
      process.ioctl(
        container,
        VFIO_IOMMU_MAP_DMA,
        VfioIommuType1DmaMap.encode({ argsz: 32, flags: 3, vaddr: memory.address, iova, size }),
      ),
    unmap: (iova, size) =>
      process.ioctl(container, VFIO_IOMMU_UNMAP_DMA, VfioIommuType1DmaUnmap.encode({ argsz: 24, iova, size })),
    told() {
      const bytes = new Uint8Array(256);
      const view = viewOf(bytes);
      view.setUint32(0, 256, true);
      t.is(process.ioctl(container, VFIO_IOMMU_GET_INFO, bytes), 0);
      const result: { ranges: [bigint, bigint][]; available: number } = { ranges: [], available: -1 };
      for (let at = view.getUint32(16, true); at !== 0; at = view.getUint32(at + 4, true)) {
        if (view.getUint16(at, true) === 3) result.available = view.getUint32(at + 8, true);
        if (view.getUint16(at, true) !== 1) continue;
        for (let index = 0; index < view.getUint32(at + 8, true); index++) {
          const entry = at + 16 + index * VfioIovaRange.size;
          result.ranges.push([view.getBigUint64(entry, true), view.getBigUint64(entry + 8, true)]);
        }
      }
      return result;
    },
  };
}

test('a mapping must lie in one range, and none of it in what is reserved', t => {
  const { map, told } = fixture(t, {});
  t.deepEqual(told().ranges, [
    [0n, 0xfedf_ffffn],
    [0xfef0_0000n, 2n ** 48n - 1n],
  ]);
  t.is(map(0xfee0_0000, 0x1000), -Errno.EINVAL, 'the first reserved page');
  t.is(map(0xfeef_f000, 0x1000), -Errno.EINVAL, 'the last');
  t.is(map(0xfedf_f000, 0x2000), -Errno.EINVAL, 'reaches into it');
  t.is(map(0xfeef_f000, 0x2000), -Errno.EINVAL, 'reaches out of it');
  t.is(map(0xfedf_f000, 0x1000), 0);
  t.is(map(0xfef0_0000, 0x1000), 0);
});

test('other reserved ranges, in any order, and a narrower width', t => {
  const reservedIova = [
    { startFrame: 0x100, endFrame: 0x200 },
    { startFrame: 0, endFrame: 1 },
    { startFrame: 0x180, endFrame: 0x280 },
  ];
  const { map, told } = fixture(t, { reservedIova, iovaWidth: 39 });
  t.deepEqual(told().ranges, [
    [0x1000n, 0xf_ffffn],
    [0x28_0000n, 2n ** 39n - 1n],
  ]);
  t.is(map(0, 0x1000), -Errno.EINVAL);
  t.is(map(0x27_f000, 0x1000), -Errno.EINVAL);
  t.is(map(2n ** 39n, 0x1000), -Errno.EINVAL);
  t.is(map(2n ** 39n - 0x1000n, 0x2000), -Errno.EINVAL);
  t.is(map(2n ** 39n - 0x1000n, 0x1000), 0);
});

test('dma_entry_limit counts mappings, not pages: ENOSPC, and room again after an unmap', t => {
  const { map, unmap, told } = fixture(t, { dmaEntryLimit: 2 });
  t.is(told().available, 2);
  t.is(map(0, 0x1_0000), 0);
  t.is(map(0x10_0000, 0x1000), 0);
  t.is(told().available, 0);
  t.is(map(0x20_0000, 0x1000), -Errno.ENOSPC);
  t.is(map(0, 0x1000), -Errno.EEXIST, 'an overlap is found first');
  t.is(map(0xfee0_0000, 0x1000), -Errno.ENOSPC, 'before the range is looked at');
  t.is(unmap(0, 0x1_0000), 0);
  t.is(told().available, 1);
  t.is(map(0x20_0000, 0x1000), 0);
});
