/** The constants of this package by the names that C gives them, so that a header's values can be held against ours. */
import * as iommu from './rfc-iommu.js';
import * as rfc from './rfc-vfio.js';
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
