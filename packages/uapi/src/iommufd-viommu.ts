/** linux/iommufd.h, part three: page faults, virtual IOMMUs and what belongs to them. */
import { array, u32, u64 } from './field.js';
import { struct } from './struct.js';

const SOURCE = 'linux/iommufd.h';

/** ioctl numbers: _IO(';', n), so direction and size are 0. None is a number of VFIO. */
export const IOMMU_FAULT_QUEUE_ALLOC = 0x3b8e;
export const IOMMU_VIOMMU_ALLOC = 0x3b90;
export const IOMMU_VDEVICE_ALLOC = 0x3b91;
export const IOMMU_VEVENTQ_ALLOC = 0x3b93;
export const IOMMU_HW_QUEUE_ALLOC = 0x3b94;

export const IommuFaultAlloc = struct('iommu_fault_alloc', SOURCE, 16, {
  size: u32(0),
  flags: u32(4),
  out_fault_id: u32(8),
  out_fault_fd: u32(12),
});
export const IommuHwptPgfault = struct('iommu_hwpt_pgfault', SOURCE, 40, {
  flags: u32(0),
  dev_id: u32(4),
  pasid: u32(8),
  grpid: u32(12),
  perm: u32(16),
  addr: u64(24),
  length: u32(32),
  cookie: u32(36),
});
export const IommuHwptPageResponse = struct('iommu_hwpt_page_response', SOURCE, 8, {
  cookie: u32(0),
  code: u32(4),
});
export const IommuViommuAlloc = struct('iommu_viommu_alloc', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  type: u32(8),
  dev_id: u32(12),
  hwpt_id: u32(16),
  out_viommu_id: u32(20),
  data_len: u32(24),
  data_uptr: u64(32),
});
/** One command of the queue. */
export const IommuViommuArmSmmuv3Invalidate = struct('iommu_viommu_arm_smmuv3_invalidate', SOURCE, 16, {
  cmd: array(0, 2, u64),
});
export const IommuViommuTegra241Cmdqv = struct('iommu_viommu_tegra241_cmdqv', SOURCE, 16, {
  out_vintf_mmap_offset: u64(0),
  out_vintf_mmap_length: u64(8),
});
export const IommuVdeviceAlloc = struct('iommu_vdevice_alloc', SOURCE, 24, {
  size: u32(0),
  viommu_id: u32(4),
  dev_id: u32(8),
  out_vdevice_id: u32(12),
  virt_id: u64(16),
});
export const IommuVeventqAlloc = struct('iommu_veventq_alloc', SOURCE, 32, {
  size: u32(0),
  flags: u32(4),
  viommu_id: u32(8),
  type: u32(12),
  veventq_depth: u32(16),
  out_veventq_id: u32(20),
  out_veventq_fd: u32(24),
});
export const IommufdVeventHeader = struct('iommufd_vevent_header', SOURCE, 8, {
  flags: u32(0),
  sequence: u32(4),
});
/** An event record; its StreamID is the virtual one. */
export const IommuVeventArmSmmuv3 = struct('iommu_vevent_arm_smmuv3', SOURCE, 32, {
  evt: array(0, 4, u64),
});
export const IommuVeventTegra241Cmdqv = struct('iommu_vevent_tegra241_cmdqv', SOURCE, 16, {
  lvcmdq_err_map: array(0, 2, u64),
});
export const IommuHwQueueAlloc = struct('iommu_hw_queue_alloc', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  viommu_id: u32(8),
  type: u32(12),
  index: u32(16),
  out_hw_queue_id: u32(20),
  nesting_parent_iova: u64(24),
  length: u64(32),
});

export const IommuPgfaultFlag = { PASID_VALID: 1, LAST_PAGE: 2 } as const;
export const IommuPgfaultPerm = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;
/** There is no FAILURE, unlike in RFC v3.1. */
export const IommufdPageResponseCode = { SUCCESS: 0, INVALID: 1 } as const;
export const IommuViommuType = { DEFAULT: 0, ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;
export const IommuVeventqType = { DEFAULT: 0, ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;
/** Of an event header. */
export const IommuVeventFlag = { LOST_EVENTS: 1 } as const;
export const IommuHwQueueType = { DEFAULT: 0, TEGRA241_CMDQV: 1 } as const;
