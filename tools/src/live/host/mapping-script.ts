/** Type 1, version 2: what a container tells of its IOMMU, and what it maps. */
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VfioContainerFd,
  VfioInfoCapHeader,
  VfioIommuInfoFlag,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIommuType1Info,
  VfioIommuType1InfoCapIovaRange,
  VfioIommuType1InfoCapMigration,
  VfioIommuType1InfoDmaAvail,
} from '@remora/uapi';
import { deviceName, groupOf } from './container-script.js';
import { CONTAINER, IOMMU } from './paths.js';
import type { HostRig } from './rig.js';
import type { Output, Script } from './script.js';

const PAGE = 0x1000;
const DIRTY_PAGES = 0x3b75;
const RW = 3;

type Map = { argsz?: number; flags?: number; vaddr: number; iova: number | bigint; size: number | bigint };
type Unmap = Omit<Map, 'vaddr'>;

/** 64-bit values as text: JSON has no others. */
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

export function mapBytes({ argsz = VfioIommuType1DmaMap.size, flags = RW, vaddr, iova, size }: Map): Uint8Array {
  return VfioIommuType1DmaMap.encode({ argsz, flags, vaddr: wide(vaddr), iova: wide(iova), size: wide(size) });
}

export function unmapBytes({ argsz = VfioIommuType1DmaUnmap.size, flags = 0, iova, size }: Unmap): Uint8Array {
  return VfioIommuType1DmaUnmap.encode({ argsz, flags, iova: wide(iova), size: wide(size) });
}

const wide = (value: number | bigint): bigint => BigInt.asUintN(64, BigInt(value));
const unmapped = (view: DataView): Output => hex(VfioIommuType1DmaUnmap.decode(view).size);

/** A container of the first device's group, of `type`. With the path of iommufd, that stands for one. */
export function containerOf(rig: HostRig, type: number, path = CONTAINER): { container: number; group: number } {
  const { syscalls } = rig;
  const group = syscalls.open(groupOf(rig, rig.devices[0]));
  const container = syscalls.open(path);
  const entered = syscalls.ioctl(group, VFIO_GROUP_SET_CONTAINER, VfioContainerFd.encode({ fd: container }));
  const set = syscalls.ioctl(container, VFIO_SET_IOMMU, type);
  if (group < 0 || container < 0 || entered < 0 || set < 0)
    throw new Error(`no container of type ${type}: group ${group}, container ${container}, ${entered}, ${set}`);
  return { container, group };
}

export function mappingScript(script: Script, rig: HostRig): void {
  mappingsOf(script, rig, CONTAINER, '');
}

/** The same of an iommufd that stands for a container, whose device is open: it is attached then. */
export function compatScript(script: Script, rig: HostRig): void {
  const container = rig.syscalls.open(IOMMU);
  script.chapter('iommufd for a container');
  for (let extension = 0; extension <= 12; extension++)
    script.ioctl(`extension ${extension}`, container, VFIO_CHECK_EXTENSION, extension);
  for (const type of [0, 1, 3, 6, 99]) script.ioctl(`type ${type} without a group`, container, VFIO_SET_IOMMU, type);
  rig.syscalls.close(container);
  mappingsOf(script, rig, IOMMU, 'iommufd for a container, ');
}

function mappingsOf(script: Script, rig: HostRig, path: string, prefix: string): void {
  const { container, group } = containerOf(rig, VFIO_TYPE1v2_IOMMU, path);
  script.chapter(`${prefix}information`);
  const device = script.openBy('device', group, VFIO_GROUP_GET_DEVICE_FD, deviceName(rig.devices[0]));
  const info = (step: string, bytes: number, argsz = bytes): void => {
    const argument = new Uint8Array(bytes).fill(0xa5, 4);
    new DataView(argument.buffer).setUint32(0, argsz, true);
    script.ioctl(step, container, VFIO_IOMMU_GET_INFO, argument, view => information(view, bytes));
  };
  info('of 8 bytes', 24, 8);
  info('of 15 bytes', 24, 15);
  info('of 16 bytes', 16);
  info('of 24 bytes', 24);
  info('of 40 bytes', 40);
  info('with all that follows', 4096);

  script.chapter(`${prefix}map`);
  const { address } = script.memory(16 * PAGE);
  const map = (step: string, values: Partial<Map>): number =>
    script.ioctl(
      step,
      container,
      VFIO_IOMMU_MAP_DMA,
      mapBytes({ vaddr: address, iova: 0x10_0000, size: 4 * PAGE, ...values }),
    );
  map('of 31 bytes', { argsz: 31 });
  map('neither read nor write', { flags: 0 });
  map('unknown flag', { flags: RW | 8 });
  map('address of before', { flags: 4 });
  map('crooked address', { vaddr: address + 1 });
  map('crooked IOVA', { iova: 0x10_0001 });
  map('crooked size', { size: PAGE + 1 });
  map('no size', { size: 0 });
  map('address that is not there', { vaddr: 0x1000 });
  map('address of the kernel', { vaddr: Number(2n ** 63n), size: PAGE });
  map('IOVA past the end', { iova: 2n ** 64n - 2n * BigInt(PAGE), size: 4 * PAGE });
  map('last page of all', { iova: 2n ** 64n - BigInt(PAGE), size: PAGE });
  map('as much as there is', { size: 2n ** 64n - BigInt(PAGE) });
  map('beyond 48 bits', { iova: 2n ** 48n });
  map('where messages go', { iova: 0xfee0_0000, size: PAGE });
  map('across where messages go', { iova: 0xfedf_f000, size: 2 * PAGE });
  map('last page of 32 bits', { iova: 0xffff_f000, size: PAGE });
  map('four pages', {});
  map('the same again', {});
  map('across its end', { iova: 0x10_3000, size: 2 * PAGE });
  map('across its start', { iova: 0xf_f000, size: 2 * PAGE });
  map('inside', { iova: 0x10_1000, size: PAGE });
  map('right behind', { iova: 0x10_4000, vaddr: address + 4 * PAGE, size: PAGE });
  map('right before', { iova: 0xf_f000, vaddr: address + 5 * PAGE, size: PAGE });
  map('the same memory elsewhere, to be read', { flags: 1, iova: 0x20_0000, size: PAGE });
  map('the same memory elsewhere, to be written', { flags: 2, iova: 0x30_0000, size: PAGE });
  info('after eight mappings', 4096);

  script.chapter(`${prefix}unmap`);
  const unmap = (step: string, values: Partial<Unmap>): number =>
    script.ioctl(
      step,
      container,
      VFIO_IOMMU_UNMAP_DMA,
      unmapBytes({ iova: 0x10_0000, size: 4 * PAGE, ...values }),
      unmapped,
    );
  unmap('of 23 bytes', { argsz: 23 });
  unmap('unknown flag', { flags: 8 });
  unmap('crooked IOVA', { iova: 0x10_0001 });
  unmap('crooked size', { size: PAGE - 1 });
  unmap('no size', { size: 0 });
  unmap('past the end', { iova: 2n ** 64n - BigInt(PAGE), size: 2 * PAGE });
  unmap('the first page of four', { size: PAGE });
  unmap('the last page of four', { iova: 0x10_3000, size: PAGE });
  unmap('from the middle on', { iova: 0x10_2000, size: 4 * PAGE });
  unmap('where nothing is', { iova: 0x4000_0000 });
  unmap('the four pages', {});
  unmap('the four pages again', {});
  unmap('two and what lies between', { iova: 0xf_f000, size: 6 * PAGE });
  unmap('with all addresses, and a size', { flags: 2, iova: 0, size: PAGE });
  unmap('with all addresses, and an IOVA', { flags: 2, iova: PAGE, size: 0 });
  unmap('dirty pages', { flags: 1 });
  unmap('dirty pages of all', { flags: 3, iova: 0, size: 0 });
  unmap('addresses only', { flags: 4 });
  map('one more', { size: PAGE });
  unmap('all addresses', { flags: 2, iova: 0, size: 0 });
  unmap('all addresses again', { flags: 2, iova: 0, size: 0 });
  script.ioctl('dirty pages as an ioctl', container, DIRTY_PAGES, new Uint8Array(8).fill(8, 0, 1));
  info('when all is unmapped', 4096);
  script.close(device);
  script.close(group);
  script.ioctl('when the group is gone', container, VFIO_IOMMU_UNMAP_DMA, unmapBytes({ iova: 0, size: PAGE }));
  script.close(container);
  versionOne(script, rig, address, path, prefix);
}

/** The older version cuts mappings in two. */
function versionOne(script: Script, rig: HostRig, address: number, path: string, prefix: string): void {
  const { container, group } = containerOf(rig, VFIO_TYPE1_IOMMU, path);
  script.chapter(`${prefix}version 1`);
  const map = (step: string, iova: number, pages: number): number =>
    script.ioctl(step, container, VFIO_IOMMU_MAP_DMA, mapBytes({ vaddr: address, iova, size: pages * PAGE }));
  const unmap = (step: string, iova: number, pages: number): number =>
    script.ioctl(step, container, VFIO_IOMMU_UNMAP_DMA, unmapBytes({ iova, size: pages * PAGE }), unmapped);
  map('four pages', 0x10_0000, 4);
  unmap('the last page of four', 0x10_3000, 1);
  unmap('the first page of four', 0x10_0000, 1);
  unmap('the rest', 0x10_0000, 4);
  map('two', 0x10_0000, 2);
  map('two more', 0x10_2000, 2);
  unmap('from the middle of the first on', 0x10_1000, 3);
  unmap('what is left', 0x10_0000, 4);
  script.close(group);
  script.close(container);
}

function information(view: DataView, bytes: number): Output {
  const { argsz, flags, iova_pgsizes, cap_offset } = VfioIommuType1Info.fields;
  const offset = bytes >= VfioIommuType1Info.size ? cap_offset.get(view) : -1;
  const capabilities: Output[] = [];
  if ((flags.get(view) & VfioIommuInfoFlag.CAPS) !== 0 && offset > 0) {
    for (let at = offset; at !== 0 && at < bytes; at = VfioInfoCapHeader.fields.next.get(view, at))
      capabilities.push(capability(view, at));
  }
  return {
    argsz: argsz.get(view),
    flags: flags.get(view),
    pages: hex(iova_pgsizes.number(view)),
    // Bytes that the kernel left as they were.
    offset: offset === 0xa5a5_a5a5 ? 'untouched' : offset,
    capabilities,
  };
}

function capability(view: DataView, at: number): Output {
  const { id, version } = VfioInfoCapHeader.decode(view, at);
  const offset = at % 8;
  switch (id) {
    case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: {
      const { fields } = VfioIommuType1InfoCapIovaRange;
      const ranges = Array.from({ length: fields.nr_iovas.get(view, at) }, (_, index) => {
        const from = at + fields.iova_ranges.start(index);
        return [hex(view.getBigUint64(from, true)), hex(view.getBigUint64(from + 8, true))];
      });
      return { id, version, offset, ranges };
    }
    case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
      return { id, version, offset, available: VfioIommuType1InfoDmaAvail.decode(view, at).avail };
    case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION: {
      const { flags, pgsize_bitmap, max_dirty_bitmap_size } = VfioIommuType1InfoCapMigration.decode(view, at);
      return { id, version, offset, flags, pages: hex(pgsize_bitmap), most: hex(max_dirty_bitmap_size) };
    }
    default:
      return { id, version, offset };
  }
}
