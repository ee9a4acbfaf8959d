/** What RFC v3.1 adds to linux/vfio.h [A02] (vsva.md 3.1, 3.11 to 3.14), and the VMID series (5.2 B02). */
import { bytes, struct, u16, u32 } from './struct.js';

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

/** VFIO_CHECK_EXTENSION: returns the kernel's IOMMU uAPI version. */
export const VFIO_NESTING_IOMMU_UAPI = 9;

export const VfioIommuType1PasidRequest = struct('vfio_iommu_type1_pasid_request', RFC, 20, {
  argsz: u32(0),
  flags: u32(4),
  /** ALLOC: the lowest PASID wanted. FREE: the PASID to free. */
  min: u32(8),
  max: u32(12),
  /** ALLOC: the answer. */
  result: u32(16),
});
export const VfioPasidRequestFlag = { ALLOC: 1, FREE: 2 } as const;

/** `data` follows: an IommuGpasidBindData. */
export const VfioIommuType1Bind = struct('vfio_iommu_type1_bind', RFC, 8, { argsz: u32(0), flags: u32(4) });
export const VfioBindFlag = { BIND_GUEST_PGTBL: 1, UNBIND_GUEST_PGTBL: 2 } as const;

export const VfioIommuType1CacheInvalidate = struct('vfio_iommu_type1_cache_invalidate', RFC, 56, {
  argsz: u32(0),
  flags: u32(4),
  cache_info: bytes(8, 48),
});

export const VFIO_IOMMU_TYPE1_INFO_CAP_NESTING = 2;
export const VfioIommuType1InfoCapNesting = struct('vfio_iommu_type1_info_cap_nesting', RFC, 16, {
  id: u16(0),
  version: u16(2),
  next: u32(4),
  nesting_capabilities: u32(8),
  stage1_format: u32(12),
});
export const VfioIommuPasidReqs = 1;
