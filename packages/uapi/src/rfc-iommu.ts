/**
 * linux/iommu.h as RFC v3.1 has it [A02]: first-stage bind, cache invalidation, faults and page responses (vsva.md 3.2 to 3.10).
 * None of it is in today's kernel headers.
 */
import { arm, array, nested, u32, u64, u8, union } from './field.js';
import { struct } from './struct.js';

const RFC = 'RFC v3.1 linux/iommu.h';

/** IOMMU_UAPI_VERSION: one number for all structures. */
export const IOMMU_UAPI_VERSION = 1;

export const IommuFaultPerm = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

export const IommuFaultUnrecoverable = struct('iommu_fault_unrecoverable', RFC, 32, {
  reason: u32(0),
  flags: u32(4),
  pasid: u32(8),
  perm: u32(12),
  addr: u64(16),
  fetch_addr: u64(24),
});
export const IommuFaultUnrecoverableFlag = { PASID_VALID: 1, ADDR_VALID: 2, FETCH_ADDR_VALID: 4 } as const;
export const IommuFaultReason = {
  UNKNOWN: 0,
  PASID_FETCH: 1,
  BAD_PASID_ENTRY: 2,
  PASID_INVALID: 3,
  WALK_EABT: 4,
  PTE_FETCH: 5,
  PERMISSION: 6,
  ACCESS: 7,
  OOR_ADDRESS: 8,
} as const;

export const IommuFaultPageRequest = struct('iommu_fault_page_request', RFC, 40, {
  flags: u32(0),
  pasid: u32(4),
  grpid: u32(8),
  perm: u32(12),
  addr: u64(16),
  private_data: array(24, 2, u64),
});
export const IommuFaultPageRequestFlag = { PASID_VALID: 1, LAST_PAGE: 2, PRIV_DATA: 4 } as const;

export const IommuFaultType = { DMA_UNRECOV: 1, PAGE_REQ: 2 } as const;
export const IommuFault = struct('iommu_fault', RFC, 64, {
  type: u32(0),
  /** 56 bytes, so that later kinds of fault fit. */
  data: union(8, 56, 'type', { [IommuFaultType.DMA_UNRECOV]: 'event', [IommuFaultType.PAGE_REQ]: 'prm' }),
  event: arm('event', nested(8, IommuFaultUnrecoverable)),
  prm: arm('prm', nested(8, IommuFaultPageRequest)),
});

export const IommuPageResponse = struct('iommu_page_response', RFC, 20, {
  version: u32(0),
  flags: u32(4),
  pasid: u32(8),
  grpid: u32(12),
  code: u32(16),
});
export const IommuPageResponseFlag = { PASID_VALID: 1 } as const;
export const IommuPageResponseCode = { SUCCESS: 0, INVALID: 1, FAILURE: 2 } as const;

export const IommuInvAddrInfo = struct('iommu_inv_addr_info', RFC, 40, {
  flags: u32(0),
  archid: u32(4),
  pasid: u64(8),
  addr: u64(16),
  granule_size: u64(24),
  nb_granules: u64(32),
});
export const IommuInvAddrFlag = { PASID: 1, ARCHID: 2, LEAF: 4 } as const;

export const IommuInvPasidInfo = struct('iommu_inv_pasid_info', RFC, 16, {
  flags: u32(0),
  archid: u32(4),
  pasid: u64(8),
});
export const IommuInvPasidFlag = { PASID: 1, ARCHID: 2 } as const;

/** Bits: several caches may be asked for at once. */
export const IommuCache = { IOTLB: 1, DEV_IOTLB: 2, PASID: 4 } as const;
export const IommuInvGranularity = { DOMAIN: 0, PASID: 1, ADDR: 2 } as const;
/** DOMAIN granularity has no further information. The size is the same for all. */
export const IommuCacheInvalidateInfo = struct('iommu_cache_invalidate_info', RFC, 48, {
  version: u32(0),
  cache: u8(4),
  granularity: u8(5),
  info: union(8, 40, 'granularity', {
    [IommuInvGranularity.PASID]: 'pasid_info',
    [IommuInvGranularity.ADDR]: 'addr_info',
  }),
  pasid_info: arm('pasid_info', nested(8, IommuInvPasidInfo)),
  addr_info: arm('addr_info', nested(8, IommuInvAddrInfo)),
});

export const IommuGpasidBindDataVtd = struct('iommu_gpasid_bind_data_vtd', RFC, 16, {
  flags: u64(0),
  pat: u32(8),
  emt: u32(12),
});
export const IommuSvaVtdFlag = { SRE: 1, EAFE: 2, PCD: 4, PWT: 8, EMTE: 16, CD: 32 } as const;
/** Those of IommuSvaVtdFlag that make the memory type. */
export const IOMMU_SVA_VTD_GPASID_MTS_MASK = 0x3c;

export const IommuPasidFormat = { INTEL_VTD: 1 } as const;
export const IommuGpasidBindData = struct('iommu_gpasid_bind_data', RFC, 72, {
  version: u32(0),
  format: u32(4),
  flags: u64(8),
  gpgd: u64(16),
  hpasid: u64(24),
  gpasid: u64(32),
  addr_width: u32(40),
  vendor: union(56, 16, 'format', { [IommuPasidFormat.INTEL_VTD]: 'vtd' }),
  vtd: arm('vtd', nested(56, IommuGpasidBindDataVtd)),
});
export const IommuSvaGpasidFlag = { VALID: 1 } as const;
