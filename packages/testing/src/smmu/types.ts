/** Type numbers of linux/iommufd.h. */
export const SmmuType = {
  HW_INFO_SMMUV3: 2,
  HW_INFO_CMDQV: 3,
  HWPT_SMMUV3: 2,
  VIOMMU_SMMUV3: 1,
  VIOMMU_CMDQV: 2,
  INVALIDATE_SMMUV3: 1,
  EVENT_SMMUV3: 1,
  EVENT_CMDQV: 2,
  HW_QUEUE_CMDQV: 1,
} as const;
