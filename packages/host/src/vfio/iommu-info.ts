/** VFIO_IOMMU_GET_INFO and the capability chain behind it [A07]. */
import { Errno } from '@remora/core';
import {
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_TYPE1_INFO_CAP_NESTING,
  viewOf,
  VfioInfoCapHeader,
  VfioIommuInfoFlag,
  VfioIommuPasidReqs,
  VfioIommuType1Info,
  VfioIommuType1InfoCapNesting,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';

/** More than any kernel tells; a chain that claims to be longer is refused. */
const MAX_INFO_BYTES = 0x1_0000;

export interface NestingCapability {
  /** Stage1Format of the host. */
  readonly stage1Format: number;
  readonly pasidRequests: boolean;
}

export interface IommuInfo {
  /** Page sizes as a bit set; 4096 if the kernel does not tell, as QEMU assumes. */
  readonly pageSizes: number;
  /** Undefined if the chain does not have it. */
  readonly nesting: NestingCapability | undefined;
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
  if ((flags & VfioIommuInfoFlag.CAPS) === 0) return { pageSizes, nesting: undefined };
  const at = findCapability(answer, fields.cap_offset.get(answer), VFIO_IOMMU_TYPE1_INFO_CAP_NESTING);
  if (at === undefined) return { pageSizes, nesting: undefined };
  if (at < 0 || at + VfioIommuType1InfoCapNesting.size > answer.byteLength) return -Errno.EINVAL;
  const cap = VfioIommuType1InfoCapNesting.fields;
  return {
    pageSizes,
    nesting: {
      stage1Format: cap.stage1_format.get(answer, at),
      pasidRequests: (cap.nesting_capabilities.get(answer, at) & VfioIommuPasidReqs) !== 0,
    },
  };
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
 * Where the capability `id` is; undefined if the chain ends without it, a negated errno if the chain is broken. Each step must
 * lead forward, so that a circle cannot hold us.
 */
function findCapability(info: DataView, first: number, id: number): number | undefined {
  const { fields, size } = VfioInfoCapHeader;
  let end = VfioIommuType1Info.size;
  for (let at = first; at !== 0; at = fields.next.get(info, at)) {
    if (at < end || at + size > info.byteLength) return -Errno.EINVAL;
    if (fields.id.get(info, at) === id) return at;
    end = at + size;
  }
  return undefined;
}
