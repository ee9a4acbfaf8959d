/** VFIO_IOMMU_GET_INFO and the capability chain behind it [A07]. */
import { frameOf } from '@remora/bits';
import { Errno } from '@remora/core';
import {
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_NESTING,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  viewOf,
  VfioInfoCapHeader,
  VfioIommuInfoFlag,
  VfioIommuPasidReqs,
  VfioIommuType1Info,
  VfioIommuType1InfoCapIovaRange,
  VfioIommuType1InfoCapNesting,
  VfioIommuType1InfoDmaAvail,
  VfioIovaRange,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';

/** More than any kernel tells; a chain that claims to be longer is refused. */
const MAX_INFO_BYTES = 0x1_0000;
const PAGE = 4096;

export interface NestingCapability {
  /** Stage1Format of the host. */
  readonly stage1Format: number;
  readonly pasidRequests: boolean;
}

/** Page frames [startFrame, endFrame). */
export interface IovaFrames {
  readonly startFrame: number;
  readonly endFrame: number;
}

export interface IommuInfo {
  /** Page sizes as a bit set; 4096 if the kernel does not tell, as QEMU assumes. */
  readonly pageSizes: number;
  /** Undefined if the chain does not have it. */
  readonly nesting: NestingCapability | undefined;
  /** IOVAs that can be mapped, ascending; undefined if the kernel does not tell. */
  readonly iovaRanges: readonly IovaFrames[] | undefined;
  /** How many mappings can be made; undefined if the kernel does not tell. */
  readonly dmaAvailable: number | undefined;
}

/**
 * Asks the container, with a buffer that grows until the answer fits. Returns a negated errno if the kernel refuses, and -EINVAL if
 * its answer makes no sense: a chain that leaves the buffer or runs in a circle.
 */
export function readIommuInfo(syscalls: HostSyscalls, fd: number): IommuInfo | number {
  const answer = fetchInfo(syscalls, fd);
  if (typeof answer === 'number') return answer;
  const { fields } = VfioIommuType1Info;
  const flags = fields.flags.get(answer);
  const pageSizes = (flags & VfioIommuInfoFlag.PGSIZES) === 0 ? 0x1000 : fields.iova_pgsizes.number(answer);
  const chain = (flags & VfioIommuInfoFlag.CAPS) === 0 ? 0 : fields.cap_offset.get(answer);
  const nesting = readNesting(answer, chain);
  const iovaRanges = readIovaRanges(answer, chain);
  const dmaAvailable = readDmaAvailable(answer, chain);
  if (typeof nesting === 'number') return nesting;
  if (typeof iovaRanges === 'number') return iovaRanges;
  if (dmaAvailable !== undefined && dmaAvailable < 0) return dmaAvailable;
  return { pageSizes, nesting, iovaRanges, dmaAvailable };
}

function readNesting(info: DataView, chain: number): NestingCapability | number | undefined {
  const { fields, size } = VfioIommuType1InfoCapNesting;
  const at = findCapability(info, chain, VFIO_IOMMU_TYPE1_INFO_CAP_NESTING, size);
  if (at === undefined || at < 0) return at;
  return {
    stage1Format: fields.stage1_format.get(info, at),
    pasidRequests: (fields.nesting_capabilities.get(info, at) & VfioIommuPasidReqs) !== 0,
  };
}

/** Whole pages of each range. A list without ranges says nothing. */
function readIovaRanges(info: DataView, chain: number): IovaFrames[] | number | undefined {
  const { fields, size } = VfioIommuType1InfoCapIovaRange;
  const at = findCapability(info, chain, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, size);
  if (at === undefined || at < 0) return at;
  const count = fields.nr_iovas.get(info, at);
  if (count === 0) return undefined;
  if (fields.iova_ranges.start(count, at) > info.byteLength) return -Errno.EINVAL;
  const { start, end } = VfioIovaRange.fields;
  return Array.from({ length: count }, (_, index) => {
    const entry = fields.iova_ranges.start(index, at);
    const first = frameOf(start.hi(info, entry), start.lo(info, entry));
    const last = frameOf(end.hi(info, entry), end.lo(info, entry));
    return {
      startFrame: start.lo(info, entry) % PAGE === 0 ? first : first + 1,
      endFrame: (end.lo(info, entry) & (PAGE - 1)) === PAGE - 1 ? last + 1 : last,
    };
  });
}

function readDmaAvailable(info: DataView, chain: number): number | undefined {
  const { fields, size } = VfioIommuType1InfoDmaAvail;
  const at = findCapability(info, chain, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, size);
  return at === undefined || at < 0 ? at : fields.avail.get(info, at);
}

function fetchInfo(syscalls: HostSyscalls, fd: number): DataView | number {
  for (let size = VfioIommuType1Info.size; size <= MAX_INFO_BYTES;) {
    const bytes = new Uint8Array(size);
    const view = viewOf(bytes);
    VfioIommuType1Info.fields.argsz.set(view, size);
    const result = syscalls.ioctl(fd, VFIO_IOMMU_GET_INFO, bytes);
    if (result < 0) return result;
    const needed = VfioIommuType1Info.fields.argsz.get(view);
    if (needed <= size) return view;
    size = needed;
  }
  return -Errno.EINVAL;
}

/**
 * Where the capability `id` of `bytes` bytes is; undefined if the chain ends without it, a negated errno if the chain is broken. Each step
 * must lead forward, so that a circle cannot hold us.
 */
function findCapability(info: DataView, first: number, id: number, bytes: number): number | undefined {
  const { fields, size } = VfioInfoCapHeader;
  let end = VfioIommuType1Info.size;
  for (let at = first; at !== 0; at = fields.next.get(info, at)) {
    if (at < end || at + size > info.byteLength) return -Errno.EINVAL;
    if (fields.id.get(info, at) === id) return at + bytes > info.byteLength ? -Errno.EINVAL : at;
    end = at + size;
  }
  return undefined;
}
