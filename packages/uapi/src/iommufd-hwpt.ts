/** linux/iommufd.h, part two: hardware page tables, what the hardware says of itself, invalidation, dirty pages. */
import { arm, array, u32, u64, u8, union } from './field.js';
import { struct } from './struct.js';

const SOURCE = 'linux/iommufd.h';

/** ioctl numbers: _IO(';', n), so direction and size are 0. None is a number of VFIO. */
export const IOMMU_HWPT_ALLOC = 0x3b89;
export const IOMMU_GET_HW_INFO = 0x3b8a;
export const IOMMU_HWPT_SET_DIRTY_TRACKING = 0x3b8b;
export const IOMMU_HWPT_GET_DIRTY_BITMAP = 0x3b8c;
export const IOMMU_HWPT_INVALIDATE = 0x3b8d;

export const IommuHwptAlloc = struct('iommu_hwpt_alloc', SOURCE, 48, {
  size: u32(0),
  flags: u32(4),
  dev_id: u32(8),
  pt_id: u32(12),
  out_hwpt_id: u32(16),
  data_type: u32(24),
  data_len: u32(28),
  data_uptr: u64(32),
  fault_id: u32(40),
});
export const IommuHwptVtdS1 = struct('iommu_hwpt_vtd_s1', SOURCE, 24, {
  flags: u64(0),
  pgtbl_addr: u64(8),
  addr_width: u32(16),
});
/** The first two double words of a stream table entry. */
export const IommuHwptArmSmmuv3 = struct('iommu_hwpt_arm_smmuv3', SOURCE, 16, {
  ste: array(0, 2, u64),
});
/** A guest device table entry. */
export const IommuHwptAmdGuest = struct('iommu_hwpt_amd_guest', SOURCE, 32, {
  dte: array(0, 4, u64),
});
export const IommuHwInfo = struct('iommu_hw_info', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  dev_id: u32(8),
  data_len: u32(12),
  data_uptr: u64(16),
  /** The caller's, with INPUT_TYPE; the kernel's answer, always. */
  data_type: union(24, 4, 'flags', { 0: 'out', 1: 'in' }),
  in_data_type: arm('in', u32(24)),
  out_data_type: arm('out', u32(24)),
  out_max_pasid_log2: u8(28),
  out_capabilities: u64(32),
});
export const IommuHwInfoVtd = struct('iommu_hw_info_vtd', SOURCE, 24, {
  flags: u32(0),
  cap_reg: u64(8),
  ecap_reg: u64(16),
});
export const IommuHwInfoArmSmmuv3 = struct('iommu_hw_info_arm_smmuv3', SOURCE, 40, {
  flags: u32(0),
  idr: array(8, 6, u32),
  iidr: u32(32),
  aidr: u32(36),
});
export const IommuHwInfoTegra241Cmdqv = struct('iommu_hw_info_tegra241_cmdqv', SOURCE, 8, {
  flags: u32(0),
  version: u8(4),
  log2vcmdqs: u8(5),
  log2vsids: u8(6),
});
export const IommuHwInfoAmd = struct('iommu_hw_info_amd', SOURCE, 16, {
  efr: u64(0),
  efr2: u64(8),
});
export const IommuHwptSetDirtyTracking = struct('iommu_hwpt_set_dirty_tracking', SOURCE, 16, {
  size: u32(0),
  flags: u32(4),
  hwpt_id: u32(8),
});
export const IommuHwptGetDirtyBitmap = struct('iommu_hwpt_get_dirty_bitmap', SOURCE, 48, {
  size: u32(0),
  hwpt_id: u32(4),
  flags: u32(8),
  iova: u64(16),
  length: u64(24),
  page_size: u64(32),
  data: u64(40),
});
export const IommuHwptInvalidate = struct('iommu_hwpt_invalidate', SOURCE, 32, {
  size: u32(0),
  hwpt_id: u32(4),
  data_uptr: u64(8),
  data_type: u32(16),
  entry_len: u32(20),
  entry_num: u32(24),
});
export const IommuHwptVtdS1Invalidate = struct('iommu_hwpt_vtd_s1_invalidate', SOURCE, 24, {
  addr: u64(0),
  npages: u64(8),
  flags: u32(16),
});

export const IommuHwptAllocFlag = { NEST_PARENT: 1, DIRTY_TRACKING: 2, FAULT_ID_VALID: 4, PASID: 8 } as const;
export const IommuHwptDataType = { NONE: 0, VTD_S1: 1, ARM_SMMUV3: 2, AMD_GUEST: 3 } as const;
/** Of iommu_hwpt_vtd_s1. */
export const IommuVtdS1Flag = { SRE: 1, EAFE: 2, WPE: 4 } as const;
export const IommuHwInfoFlag = { INPUT_TYPE: 1 } as const;
export const IommuHwInfoType = { NONE: 0, DEFAULT: 0, INTEL_VTD: 1, ARM_SMMUV3: 2, TEGRA241_CMDQV: 3, AMD: 4 } as const;
export const IommuHwInfoVtdFlag = { ERRATA_772415_SPR17: 1 } as const;
export const IommuHwInfoArmSmmuv3Flag = { ERRATA_REPEAT_TLBI_CFGI: 1 } as const;
/** `out_capabilities`. PCI_ATS_NOT_SUPPORTED is a negative one: without it ATS may be used. */
export const IommuHwCap = {
  DIRTY_TRACKING: 1,
  PCI_PASID_EXEC: 2,
  PCI_PASID_PRIV: 4,
  PCI_ATS_NOT_SUPPORTED: 8,
} as const;
export const IommuDirtyTrackingFlag = { ENABLE: 1 } as const;
export const IommuDirtyBitmapFlag = { NO_CLEAR: 1 } as const;
/** `data_type` of IOMMU_HWPT_INVALIDATE. The first is for a nested HWPT, the second for a vIOMMU. */
export const IommuInvalidateDataType = { VTD_S1: 0, ARM_SMMUV3: 1 } as const;
export const IommuVtdInvFlag = { LEAF: 1 } as const;
