/** The ioctls of /dev/iommu, and those that bring a VFIO device to it. Kernels of all variants have the same numbers for them. */
import { type IoctlType, structIoctl } from './ioctl-type.js';
import * as hwpt from './iommufd-hwpt.js';
import * as viommu from './iommufd-viommu.js';
import * as iommufd from './iommufd.js';
import * as cdev from './vfio-cdev.js';

export const IOMMUFD_IOCTLS: readonly IoctlType[] = [
  structIoctl('IOMMU_DESTROY', iommufd.IOMMU_DESTROY, iommufd.IommuDestroy),
  structIoctl('IOMMU_IOAS_ALLOC', iommufd.IOMMU_IOAS_ALLOC, iommufd.IommuIoasAlloc),
  structIoctl('IOMMU_IOAS_ALLOW_IOVAS', iommufd.IOMMU_IOAS_ALLOW_IOVAS, iommufd.IommuIoasAllowIovas),
  structIoctl('IOMMU_IOAS_COPY', iommufd.IOMMU_IOAS_COPY, iommufd.IommuIoasCopy),
  structIoctl('IOMMU_IOAS_IOVA_RANGES', iommufd.IOMMU_IOAS_IOVA_RANGES, iommufd.IommuIoasIovaRanges),
  structIoctl('IOMMU_IOAS_MAP', iommufd.IOMMU_IOAS_MAP, iommufd.IommuIoasMap),
  structIoctl('IOMMU_IOAS_UNMAP', iommufd.IOMMU_IOAS_UNMAP, iommufd.IommuIoasUnmap),
  structIoctl('IOMMU_OPTION', iommufd.IOMMU_OPTION, iommufd.IommuOption),
  structIoctl('IOMMU_VFIO_IOAS', iommufd.IOMMU_VFIO_IOAS, iommufd.IommuVfioIoas),
  structIoctl('IOMMU_HWPT_ALLOC', hwpt.IOMMU_HWPT_ALLOC, hwpt.IommuHwptAlloc),
  structIoctl('IOMMU_GET_HW_INFO', hwpt.IOMMU_GET_HW_INFO, hwpt.IommuHwInfo),
  structIoctl('IOMMU_HWPT_SET_DIRTY_TRACKING', hwpt.IOMMU_HWPT_SET_DIRTY_TRACKING, hwpt.IommuHwptSetDirtyTracking),
  structIoctl('IOMMU_HWPT_GET_DIRTY_BITMAP', hwpt.IOMMU_HWPT_GET_DIRTY_BITMAP, hwpt.IommuHwptGetDirtyBitmap),
  structIoctl('IOMMU_HWPT_INVALIDATE', hwpt.IOMMU_HWPT_INVALIDATE, hwpt.IommuHwptInvalidate),
  structIoctl('IOMMU_FAULT_QUEUE_ALLOC', viommu.IOMMU_FAULT_QUEUE_ALLOC, viommu.IommuFaultAlloc),
  structIoctl('IOMMU_IOAS_MAP_FILE', iommufd.IOMMU_IOAS_MAP_FILE, iommufd.IommuIoasMapFile),
  structIoctl('IOMMU_VIOMMU_ALLOC', viommu.IOMMU_VIOMMU_ALLOC, viommu.IommuViommuAlloc),
  structIoctl('IOMMU_VDEVICE_ALLOC', viommu.IOMMU_VDEVICE_ALLOC, viommu.IommuVdeviceAlloc),
  structIoctl('IOMMU_IOAS_CHANGE_PROCESS', iommufd.IOMMU_IOAS_CHANGE_PROCESS, iommufd.IommuIoasChangeProcess),
  structIoctl('IOMMU_VEVENTQ_ALLOC', viommu.IOMMU_VEVENTQ_ALLOC, viommu.IommuVeventqAlloc),
  structIoctl('IOMMU_HW_QUEUE_ALLOC', viommu.IOMMU_HW_QUEUE_ALLOC, viommu.IommuHwQueueAlloc),
  structIoctl('IOMMU_IOAS_NOIOMMU_GET_PA', iommufd.IOMMU_IOAS_NOIOMMU_GET_PA, iommufd.IommuIoasNoiommuGetPa),
  structIoctl('VFIO_DEVICE_BIND_IOMMUFD', cdev.VFIO_DEVICE_BIND_IOMMUFD, cdev.VfioDeviceBindIommufd),
  structIoctl('VFIO_DEVICE_ATTACH_IOMMUFD_PT', cdev.VFIO_DEVICE_ATTACH_IOMMUFD_PT, cdev.VfioDeviceAttachIommufdPt),
  structIoctl('VFIO_DEVICE_DETACH_IOMMUFD_PT', cdev.VFIO_DEVICE_DETACH_IOMMUFD_PT, cdev.VfioDeviceDetachIommufdPt),
];
