import test, { type ExecutionContext } from 'ava';
import { Access, Errno, MemTx } from '@remora/core';
import { owner } from '@remora/testing';
import {
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VfioDmaMapFlag,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIommuType1Info,
  viewOf,
} from '@remora/uapi';
import { bench, type Bench, ENGINE, ENGINE_ID, gadget, mapped, ready } from '../bench.test.helper.js';
import type { HostProcess } from '../process.js';

const RW = VfioDmaMapFlag.READ | VfioDmaMapFlag.WRITE;

interface Fixture extends Bench {
  readonly process: HostProcess;
  readonly container: number;
  /** Address of 16 mapped pages. */
  readonly base: number;
  map(iova: number | bigint, size: number | bigint, vaddr?: number, flags?: number): number;
  /** Size that the kernel says it unmapped, or -errno. */
  unmap(iova: number | bigint, size: number | bigint): number;
}

function fixture(t: ExecutionContext, type: number = VFIO_TYPE1v2_IOMMU): Fixture {
  const made = owner(t)(bench());
  const process = made.host.process('vmm');
  const { container } = ready(process, type, 1);
  const base: number = mapped(process, 0x1_0000).address;
  made.driver.takeCalls();
  return {
    ...made,
    process,
    container,
    base,
    map: (iova, size, vaddr = base, flags = RW) =>
      process.ioctl(
        container,
        VFIO_IOMMU_MAP_DMA,
        VfioIommuType1DmaMap.encode({ argsz: 32, flags, vaddr, iova, size }),
      ),
    unmap: (iova, size) => {
      const bytes = VfioIommuType1DmaUnmap.encode({ argsz: 24, iova, size });
      const result = process.ioctl(container, VFIO_IOMMU_UNMAP_DMA, bytes);
      return result < 0 ? result : VfioIommuType1DmaUnmap.fields.size.number(viewOf(bytes));
    },
  };
}

test('a mapping leads to the very frames of the process, with its access', t => {
  const { process, driver, base, map } = fixture(t);
  t.is(map(0x4000_0000, 0x3000, base + 0x1000, VfioDmaMapFlag.READ), 0);
  const { pages } = driver.domainOf(ENGINE_ID)!;
  t.deepEqual(
    [...pages],
    [0, 1, 2].map(page => [
      0x4_0000 + page,
      { hostFrame: process.memory.framesAt(base + 0x1000 * (page + 1), 1)![0], access: Access.READ },
    ]),
  );
});

test('a DMA lands in the memory that the process sees', t => {
  const { host, process, map } = fixture(t);
  const memory = mapped(process, 0x2000);
  map(0x10_0000, 0x2000, memory.address);
  const { dma, config } = host.function(ENGINE);
  config.write(4, 0x6, 2);
  t.is(dma.write(0, 0x10_1ffe, Uint8Array.of(0xca, 0xfe)), MemTx.OK);
  const bytes = new Uint8Array(2);
  memory.ram.read(0, 0x1ffe, bytes);
  t.deepEqual([...bytes], [0xca, 0xfe]);
  t.not(dma.write(0, 0x10_2000, Uint8Array.of(1)), MemTx.OK);
});

test('what MAP_DMA refuses with EINVAL', t => {
  const { map, base, driver } = fixture(t);
  t.is(map(0, 0x1000, base, 0), -Errno.EINVAL, 'neither read nor write');
  t.is(map(0, 0x1000, base, 8 | RW), -Errno.EINVAL, 'unknown flag');
  t.is(map(0, 0), -Errno.EINVAL, 'no size');
  t.is(map(0, 0x1800), -Errno.EINVAL, 'size not of whole pages');
  t.is(map(0x800, 0x1000), -Errno.EINVAL, 'IOVA within a page');
  t.is(map(0, 0x1000, base + 8), -Errno.EINVAL, 'address within a page');
  t.is(map(2n ** 48n, 0x1000), -Errno.EINVAL, 'beyond the second stage');
  t.is(map(2n ** 48n - 0x1000n, 0x2000), -Errno.EINVAL, 'reaches beyond the second stage');
  t.is(map(2n ** 64n - 0x1000n, 0x2000), -Errno.EINVAL, 'wraps around');
  t.deepEqual(driver.takeCalls(), [], 'the unit heard nothing of it');
  t.is(map(2n ** 48n - 0x1000n, 0x1000), 0, 'the last page');
});

test('an overlap is EEXIST, neighbours are fine', t => {
  const { map } = fixture(t);
  t.is(map(0x2000, 0x2000), 0);
  for (const [iova, size] of [
    [0x2000, 0x2000],
    [0x1000, 0x2000],
    [0x3000, 0x1000],
    [0x1000, 0x4000],
    [0x3000, 0x2000],
  ] as const) {
    t.is(map(iova, size), -Errno.EEXIST, `${iova} +${size}`);
  }
  t.is(map(0x1000, 0x1000), 0);
  t.is(map(0x4000, 0x1000), 0);
});

test('memory that is not there: EFAULT, nothing pinned, nothing mapped', t => {
  const { host, map, base, driver } = fixture(t);
  const before = host.dump();
  t.is(map(0, 0x2000, base + 0xf000), -Errno.EFAULT, 'its second page is beyond the mapping');
  t.is(map(0, 0x1000, 0x1000), -Errno.EFAULT);
  t.is(map(2n ** 40n, 2n ** 40n, base), -Errno.EFAULT);
  t.deepEqual(host.dump(), before);
  t.deepEqual(driver.takeCalls(), []);
});

test('the unit refuses: nothing stays pinned or mapped', t => {
  const { host, map, driver } = fixture(t);
  const before = host.dump();
  driver.fail('mapFrames', Errno.ENOMEM);
  t.is(map(0x10_0000, 0x1_0000), -Errno.ENOMEM);
  t.deepEqual(host.dump(), before);
  t.is(driver.domainOf(ENGINE_ID)!.pages.size, 0);
  t.is(map(0x10_0000, 0x1_0000), 0);
});

test('UNMAP_DMA tells how much it unmapped, holes included', t => {
  const { host, map, unmap } = fixture(t);
  const before = host.dump();
  map(0x1000, 0x1000);
  map(0x4000, 0x2000);
  t.is(unmap(0, 0x1_0000), 0x3000);
  t.is(unmap(0, 0x1_0000), 0);
  t.deepEqual(host.dump(), before);
});

test('version 2 does not cut a mapping in two', t => {
  const { map, unmap, driver } = fixture(t);
  map(0x2000, 0x4000);
  driver.takeCalls();
  t.is(unmap(0x2000, 0x1000), -Errno.EINVAL);
  t.is(unmap(0x3000, 0x1000), -Errno.EINVAL);
  t.is(unmap(0x1000, 0x2000), -Errno.EINVAL);
  t.is(unmap(0x5000, 0x2000), -Errno.EINVAL);
  t.deepEqual(driver.takeCalls(), []);
  t.is(unmap(0x2000, 0x4000), 0x4000);
});

test('version 1 removes a mapping whole if its start is in the range', t => {
  const { map, unmap } = fixture(t, VFIO_TYPE1_IOMMU);
  map(0x2000, 0x4000);
  t.is(unmap(0x3000, 0x1000), 0, 'its start lies before');
  t.is(unmap(0x1000, 0x2000), 0x4000);
});

test('what UNMAP_DMA refuses with EINVAL', t => {
  const { process, container, unmap } = fixture(t);
  t.is(unmap(0, 0), -Errno.EINVAL);
  t.is(unmap(0x10, 0x1000), -Errno.EINVAL);
  t.is(unmap(0, 0x1010), -Errno.EINVAL);
  t.is(unmap(2n ** 64n - 0x1000n, 0x2000), -Errno.EINVAL);
  for (const flags of [1, 2, 4, 8]) {
    const bytes = VfioIommuType1DmaUnmap.encode({ argsz: 24, flags, size: 0x1000 });
    t.is(process.ioctl(container, VFIO_IOMMU_UNMAP_DMA, bytes), -Errno.EINVAL, `flags ${flags}`);
  }
});

test('an unmap that the unit refuses leaves the mapping', t => {
  const { map, unmap, driver, host } = fixture(t);
  map(0x2000, 0x4000);
  const before = host.dump();
  driver.fail('unmap', Errno.EIO);
  t.is(unmap(0x2000, 0x4000), -Errno.EIO);
  t.deepEqual(host.dump(), before);
  t.is(unmap(0x2000, 0x4000), 0x4000);
});

test('memory stays pinned while it is mapped for DMA, although the process unmapped it', t => {
  const { host, process, map, unmap } = fixture(t);
  const memory = mapped(process, 0x4000);
  const frames = (): unknown => host.dump()['frames'];
  const before = frames();
  map(0, 0x4000, memory.address);
  process.munmap(memory.address, 0x4000);
  t.is(frames(), before);
  unmap(0, 0x4000);
  t.is(frames(), Number(before) - 4);
});

test('GET_INFO: a caller learns how much room the capabilities need', t => {
  const { process, container } = fixture(t, VFIO_TYPE1_NESTING_IOMMU);
  const { fields } = VfioIommuType1Info;
  const small = VfioIommuType1Info.encode({ argsz: 24 });
  t.is(process.ioctl(container, VFIO_IOMMU_GET_INFO, small), 0);
  const view = viewOf(small);
  t.deepEqual(
    [fields.argsz.get(view), fields.flags.get(view), fields.iova_pgsizes.number(view), fields.cap_offset.get(view)],
    [104, 3, 0x1000, 0],
  );
  const large = new Uint8Array(104);
  viewOf(large).setUint32(0, 104, true);
  t.is(process.ioctl(container, VFIO_IOMMU_GET_INFO, large), 0);
  t.is(
    Buffer.from(large).toString('hex'),
    [
      '68000000' + '03000000' + '0010000000000000' + '18000000' + '00000000', // info; the chain begins at 0x18
      '0300' + '0100' + '28000000' + 'ffff0000' + '00000000', // mappings available, and padding
      '0100' + '0100' + '58000000' + '02000000' + '00000000', // IOVA ranges: two
      '0000000000000000' + 'ffffdffe00000000', // up to the MSI window
      '0000f0fe00000000' + 'ffffffffffff0000', // from there to 48 bits
      '0200' + '0100' + '00000000' + '01000000' + '01000000', // nesting: PASID requests, format 1
    ].join(''),
  );
  const oldest = new Uint8Array(16);
  oldest[0] = 16;
  t.is(process.ioctl(container, VFIO_IOMMU_GET_INFO, new Uint8Array(8)), -Errno.EFAULT);
  t.is(process.ioctl(container, VFIO_IOMMU_GET_INFO, VfioIommuType1Info.encode({ argsz: 15 })), -Errno.EINVAL);
  t.is(process.ioctl(container, VFIO_IOMMU_GET_INFO, oldest), 0, 'before there were capabilities');
});

test('GET_INFO of other kernels and other containers', t => {
  const own = owner(t);
  const capabilities = (type: number, kernel: Parameters<typeof bench>[0]): number[] => {
    const process = own(bench(kernel)).host.process('vmm');
    const { container } = ready(process, type, 1);
    const bytes = new Uint8Array(256);
    const view = viewOf(bytes);
    view.setUint32(0, 256, true);
    process.ioctl(container, VFIO_IOMMU_GET_INFO, bytes);
    const found: number[] = [];
    for (let at = view.getUint32(16, true); at !== 0; at = view.getUint32(at + 4, true)) {
      found.push(view.getUint16(at, true));
      if (found.at(-1) === 2) found.push(view.getUint32(at + 8, true), view.getUint32(at + 12, true));
    }
    return found;
  };
  t.deepEqual(capabilities(VFIO_TYPE1v2_IOMMU, {}), [3, 1]);
  t.deepEqual(capabilities(VFIO_TYPE1_NESTING_IOMMU, {}), [3, 1, 2, 1, 1]);
  t.deepEqual(capabilities(VFIO_TYPE1_NESTING_IOMMU, { kernel: { nestingCapability: false } }), [3, 1]);
  t.deepEqual(capabilities(VFIO_TYPE1_NESTING_IOMMU, { kernel: { pasidRequests: false } }), [3, 1, 2, 0, 1]);
  t.deepEqual(capabilities(VFIO_TYPE1_NESTING_IOMMU, { kernel: { stage1Format: 2 } }), [3, 1, 2, 1, 2]);
});

test('requests that type1 does not know', t => {
  const { process, container } = fixture(t);
  t.is(process.ioctl(container, 0x3b80, new Uint8Array(64)), -Errno.ENOTTY);
});

test('two processes with the same IOVAs reach their own memory', t => {
  const own = owner(t);
  const { host, driver } = own(bench({ devices: [gadget(ENGINE), gadget('0000:40:00.0')] }));
  const frames = [1, 2].map(group => {
    const process = host.process(`vm${group}`);
    const { container } = ready(process, VFIO_TYPE1v2_IOMMU, group);
    const memory = mapped(process, 0x1000);
    const bytes = VfioIommuType1DmaMap.encode({
      argsz: 32,
      flags: RW,
      vaddr: memory.address,
      iova: 0x1000,
      size: 0x1000,
    });
    t.is(process.ioctl(container, VFIO_IOMMU_MAP_DMA, bytes), 0);
    return memory.ram.backing(0);
  });
  t.deepEqual(
    [ENGINE_ID, 0x4000].map(id => driver.domainOf(id)!.pages.get(1)!.hostFrame),
    frames,
  );
  t.not(frames[0], frames[1]);
});
