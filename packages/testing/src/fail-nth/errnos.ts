/** With which errnos a host call may plausibly fail: what Linux documents, or does when it is short of something. */
import { Errno } from '@remora/core';

const {
  EACCES,
  EAGAIN,
  EBUSY,
  EFAULT,
  EINTR,
  EINVAL,
  EIO,
  EMFILE,
  ENODEV,
  ENOENT,
  ENOMEM,
  ENOSPC,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
} = Errno;

/** By the first word of a point's name: that of a system call or an ioctl, or `allocate`, `queue`. */
const PLAUSIBLE: Readonly<Record<string, readonly number[]>> = {
  open: [EACCES, EMFILE, ENOENT],
  readlink: [ENOENT],
  readdir: [ENOENT],
  // The descriptor is gone all the same.
  close: [EIO, EINTR],
  pread: [EIO, EFAULT],
  pwrite: [EIO],
  read: [EIO, EAGAIN],
  write: [EIO, EINVAL],
  mmap: [ENOMEM],
  munmap: [ENOMEM],
  eventfd: [EMFILE, ENOMEM],
  // VFIO: groups and containers.
  VFIO_GET_API_VERSION: [EIO],
  VFIO_CHECK_EXTENSION: [EINVAL],
  VFIO_SET_IOMMU: [ENODEV, EPERM, EBUSY],
  VFIO_GROUP_GET_STATUS: [EIO],
  VFIO_GROUP_SET_CONTAINER: [EBUSY, ENODEV],
  VFIO_GROUP_UNSET_CONTAINER: [EBUSY],
  VFIO_GROUP_GET_DEVICE_FD: [ENODEV, EMFILE],
  VFIO_IOMMU_GET_INFO: [EINVAL, EFAULT],
  VFIO_IOMMU_MAP_DMA: [ENOMEM, ENOSPC, EINVAL],
  VFIO_IOMMU_UNMAP_DMA: [EINVAL, EIO],
  VFIO_IOMMU_PASID_REQUEST: [ENOSPC, ENOMEM],
  VFIO_IOMMU_BIND: [ENOMEM, EBUSY, EINVAL],
  VFIO_IOMMU_CACHE_INVALIDATE: [EINVAL, EIO],
  VFIO_IOMMU_GET_VMID: [EFAULT],
  VFIO_IOMMU_SET_VMID: [EINVAL],
  // VFIO: devices.
  VFIO_DEVICE_GET_INFO: [EINVAL],
  VFIO_DEVICE_GET_REGION_INFO: [EINVAL],
  VFIO_DEVICE_GET_IRQ_INFO: [EINVAL],
  VFIO_DEVICE_SET_IRQS: [ENOSPC, EINVAL],
  VFIO_DEVICE_RESET: [EAGAIN, ENOTTY],
  VFIO_DEVICE_FEATURE: [ENOTTY],
  VFIO_DEVICE_BIND_IOMMUFD: [EBUSY, ENODEV],
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: [EBUSY, ENOMEM, EINVAL],
  VFIO_DEVICE_DETACH_IOMMUFD_PT: [EIO],
  // iommufd.
  IOMMU_DESTROY: [EBUSY],
  IOMMU_IOAS_ALLOC: [ENOMEM],
  IOMMU_IOAS_IOVA_RANGES: [ENOENT],
  IOMMU_IOAS_MAP: [ENOMEM, ENOSPC, EFAULT],
  IOMMU_IOAS_MAP_FILE: [ENOMEM],
  IOMMU_IOAS_UNMAP: [ENOENT],
  IOMMU_HWPT_ALLOC: [ENOMEM, EOPNOTSUPP, EINVAL],
  IOMMU_GET_HW_INFO: [ENODEV],
  IOMMU_HWPT_INVALIDATE: [EINVAL, EIO],
  IOMMU_FAULT_QUEUE_ALLOC: [ENOMEM, EMFILE],
  IOMMU_VIOMMU_ALLOC: [ENOMEM, EOPNOTSUPP],
  IOMMU_VDEVICE_ALLOC: [ENOMEM],
  IOMMU_VEVENTQ_ALLOC: [ENOMEM, EMFILE],
  IOMMU_HW_QUEUE_ALLOC: [ENOMEM],
  // What the kernel does by itself.
  allocate: [ENOMEM],
  'allocate file descriptor': [EMFILE],
  'allocate interrupt vectors': [ENOSPC],
  queue: [ENOMEM],
};

/** Positive errnos for a point of failure, at least one. */
export function plausibleErrnos(point: string): readonly number[] {
  const [word = ''] = point.split(' ', 1);
  return PLAUSIBLE[point] ?? PLAUSIBLE[word] ?? [EIO];
}
