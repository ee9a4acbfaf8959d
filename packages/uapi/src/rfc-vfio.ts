/** What RFC v3.1 adds to linux/vfio.h [A02] (vsva.md 3.1, 3.11 to 3.14), and the VMID series (5.2 B02). */
import { arm, nested, tail, u32, u8, union } from './field.js';
import { IommuCacheInvalidateInfo } from './rfc-iommu.js';
import { struct } from './struct.js';
import { VfioInfoCapHeader } from './vfio.js';

const RFC = 'RFC v3.1 linux/vfio.h';

/**
 * Numbers that RFC v3.1 gives to its ioctls. The VMID series uses the first two for others: a kernel speaks one or the other,
 * never both (decisions.md).
 */
export const VFIO_IOMMU_PASID_REQUEST = 0x3b7a;
export const VFIO_IOMMU_BIND = 0x3b7b;
export const VFIO_IOMMU_CACHE_INVALIDATE = 0x3b7c;
export const VFIO_IOMMU_GET_VMID = 0x3b7a;
export const VFIO_IOMMU_SET_VMID = 0x3b7b;

/** IOMMU_VMID_INVALID: a container's VMID before it has one. */
export const IOMMU_VMID_INVALID = 0xffff_ffff;

/**
 * VFIO_CHECK_EXTENSION answers with the kernel's IOMMU uAPI version. Today's kernels have given this number to VFIO_UNMAP_ALL, and
 * the id of the nesting capability to the migration capability: only a kernel known to be of the RFC's line means these.
 */
export const VFIO_NESTING_IOMMU_UAPI = 9;

/** What VFIO_IOMMU_GET_VMID fills in. VFIO_IOMMU_SET_VMID takes the number itself, not a pointer. */
export const VfioContainerVmid = struct('vfio_container_vmid', 'VMID RFC v2', 4, { vmid: u32(0) });

export const VfioPasidRequestFlag = { ALLOC: 1, FREE: 2 } as const;
export const VfioIommuType1PasidRequest = struct('vfio_iommu_type1_pasid_request', RFC, 20, {
  argsz: u32(0),
  flags: u32(4),
  request: union(8, 12, 'flags', { [VfioPasidRequestFlag.ALLOC]: 'alloc', [VfioPasidRequestFlag.FREE]: 'free' }),
  min: arm('alloc', u32(8)),
  /** Inclusive. */
  max: arm('alloc', u32(12)),
  /** The kernel's answer. */
  result: arm('alloc', u32(16)),
  free_pasid: arm('free', u32(8)),
});

/** `data` is an IommuGpasidBindData. */
export const VfioIommuType1Bind = struct('vfio_iommu_type1_bind', RFC, 8, {
  argsz: u32(0),
  flags: u32(4),
  data: tail(8, u8),
});
export const VfioBindFlag = { BIND_GUEST_PGTBL: 1, UNBIND_GUEST_PGTBL: 2 } as const;

export const VfioIommuType1CacheInvalidate = struct('vfio_iommu_type1_cache_invalidate', RFC, 56, {
  argsz: u32(0),
  /** Must be 0. */
  flags: u32(4),
  cache_info: nested(8, IommuCacheInvalidateInfo),
});

export const VFIO_IOMMU_TYPE1_INFO_CAP_NESTING = 2;
export const VfioIommuType1InfoCapNesting = struct('vfio_iommu_type1_info_cap_nesting', RFC, 16, {
  header: nested(0, VfioInfoCapHeader),
  nesting_capabilities: u32(8),
  /** An IommuPasidFormat. */
  stage1_format: u32(12),
});
/** Bit of `nesting_capabilities`: the kernel answers VFIO_IOMMU_PASID_REQUEST. */
export const VfioIommuPasidReqs = 1;
