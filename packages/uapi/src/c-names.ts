/** The constants of this package by the names that C gives them, so that a header's values can be held against ours. */
import * as hwpt from './iommufd-hwpt.js';
import * as viommu from './iommufd-viommu.js';
import * as iommufd from './iommufd.js';
import * as iommu from './rfc-iommu.js';
import * as rfc from './rfc-vfio.js';
import * as cdev from './vfio-cdev.js';
import * as vfio from './vfio.js';

/** `{ RESET: 1 }` with `VFIO_DEVICE_FLAGS_` before each name. */
function named(prefix: string, values: Readonly<Record<string, number>>, suffix = ''): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [`${prefix}${key}${suffix}`, value]));
}

/** Those exports of a module that are numbers with a name as C writes it. */
function plain(module: Readonly<Record<string, unknown>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(module).filter(
      (entry): entry is [string, number] => typeof entry[1] === 'number' && /^(VFIO|IOMMU)_/.test(entry[0]),
    ),
  );
}

/** What linux/vfio.h defines. */
export const LINUX_CONSTANTS: Readonly<Record<string, number>> = {
  ...plain(vfio),
  ...named('VFIO_GROUP_FLAGS_', vfio.VfioGroupFlag),
  ...named('VFIO_DEVICE_FLAGS_', vfio.VfioDeviceFlag),
  ...named('VFIO_REGION_INFO_FLAG_', vfio.VfioRegionFlag),
  ...named('VFIO_PCI_', vfio.VfioPciRegion, '_REGION_INDEX'),
  ...named('VFIO_IRQ_INFO_', vfio.VfioIrqInfoFlag),
  ...named('VFIO_PCI_', vfio.VfioPciIrq, '_IRQ_INDEX'),
  ...named('VFIO_IRQ_SET_', vfio.VfioIrqSetFlag),
  ...named('VFIO_DEVICE_FEATURE_', vfio.VfioDeviceFeatureFlag),
  ...named('VFIO_MIGRATION_', vfio.VfioMigrationFlag),
  ...named('VFIO_DEVICE_STATE_', vfio.VfioDeviceState),
  ...named('VFIO_IOMMU_INFO_', vfio.VfioIommuInfoFlag),
  ...named('VFIO_DMA_MAP_FLAG_', vfio.VfioDmaMapFlag),
  ...named('VFIO_DMA_UNMAP_FLAG_', vfio.VfioDmaUnmapFlag),
};

/** What RFC v3.1 and the VMID series define beyond it. */
export const RFC_CONSTANTS: Readonly<Record<string, number>> = {
  ...plain(iommu),
  ...plain(rfc),
  ...named('IOMMU_FAULT_PERM_', iommu.IommuFaultPerm),
  ...named('IOMMU_FAULT_REASON_', iommu.IommuFaultReason),
  ...named('IOMMU_FAULT_UNRECOV_', iommu.IommuFaultUnrecoverableFlag),
  ...named('IOMMU_FAULT_PAGE_REQUEST_', iommu.IommuFaultPageRequestFlag),
  ...named('IOMMU_FAULT_', iommu.IommuFaultType),
  ...named('IOMMU_PAGE_RESP_', iommu.IommuPageResponseFlag),
  ...named('IOMMU_PAGE_RESP_', iommu.IommuPageResponseCode),
  ...named('IOMMU_INV_ADDR_FLAGS_', iommu.IommuInvAddrFlag),
  ...named('IOMMU_INV_PASID_FLAGS_', iommu.IommuInvPasidFlag),
  ...named('IOMMU_CACHE_INV_TYPE_', iommu.IommuCache),
  ...named('IOMMU_INV_GRANU_', iommu.IommuInvGranularity),
  ...named('IOMMU_SVA_VTD_GPASID_', iommu.IommuSvaVtdFlag),
  ...named('IOMMU_PASID_FORMAT_', iommu.IommuPasidFormat),
  IOMMU_SVA_GPASID_VAL: iommu.IommuSvaGpasidFlag.VALID,
  ...named('VFIO_IOMMU_PASID_', rfc.VfioPasidRequestFlag),
  ...named('VFIO_IOMMU_', rfc.VfioBindFlag),
  VFIO_IOMMU_PASID_REQS: rfc.VfioIommuPasidReqs,
};

/** What linux/iommufd.h defines, and linux/vfio.h for devices that are bound to an iommufd. */
export const IOMMUFD_CONSTANTS: Readonly<Record<string, number>> = {
  ...plain(iommufd),
  ...plain(hwpt),
  ...plain(viommu),
  ...plain(cdev),
  ...named('IOMMU_IOAS_MAP_', iommufd.IommuIoasMapFlag),
  ...named('IOMMU_OPTION_', iommufd.IommuOptionId),
  ...named('IOMMU_OPTION_OP_', iommufd.IommuOptionOp),
  ...named('IOMMU_VFIO_IOAS_', iommufd.IommuVfioIoasOp),
  ...named('IOMMU_HWPT_DATA_', hwpt.IommuHwptDataType),
  ...named('IOMMU_VTD_S1_', hwpt.IommuVtdS1Flag),
  ...named('IOMMU_HW_INFO_FLAG_', hwpt.IommuHwInfoFlag),
  ...named('IOMMU_HW_INFO_TYPE_', hwpt.IommuHwInfoType),
  ...named('IOMMU_HW_INFO_VTD_', hwpt.IommuHwInfoVtdFlag),
  ...named('IOMMU_HW_INFO_ARM_SMMUV3_', hwpt.IommuHwInfoArmSmmuv3Flag),
  ...named('IOMMU_HW_CAP_', hwpt.IommuHwCap),
  ...named('IOMMU_HWPT_DIRTY_TRACKING_', hwpt.IommuDirtyTrackingFlag),
  ...named('IOMMU_HWPT_GET_DIRTY_BITMAP_', hwpt.IommuDirtyBitmapFlag),
  ...named('IOMMU_VTD_INV_FLAGS_', hwpt.IommuVtdInvFlag),
  ...named('IOMMU_PGFAULT_FLAGS_', viommu.IommuPgfaultFlag),
  ...named('IOMMU_PGFAULT_PERM_', viommu.IommuPgfaultPerm),
  ...named('IOMMUFD_PAGE_RESP_', viommu.IommufdPageResponseCode),
  ...named('IOMMU_VIOMMU_TYPE_', viommu.IommuViommuType),
  ...named('IOMMU_VEVENTQ_TYPE_', viommu.IommuVeventqType),
  ...named('IOMMU_VEVENTQ_FLAG_', viommu.IommuVeventFlag),
  ...named('IOMMU_HW_QUEUE_TYPE_', viommu.IommuHwQueueType),
  ...named('VFIO_DEVICE_BIND_FLAG_', cdev.VfioDeviceBindFlag),
  ...named('VFIO_DEVICE_ATTACH_', cdev.VfioDeviceAttachFlag),
  ...named('VFIO_DEVICE_DETACH_', cdev.VfioDeviceDetachFlag),
  IOMMU_HWPT_ALLOC_NEST_PARENT: hwpt.IommuHwptAllocFlag.NEST_PARENT,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING: hwpt.IommuHwptAllocFlag.DIRTY_TRACKING,
  IOMMU_HWPT_FAULT_ID_VALID: hwpt.IommuHwptAllocFlag.FAULT_ID_VALID,
  IOMMU_HWPT_ALLOC_PASID: hwpt.IommuHwptAllocFlag.PASID,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: hwpt.IommuInvalidateDataType.VTD_S1,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: hwpt.IommuInvalidateDataType.ARM_SMMUV3,
};
