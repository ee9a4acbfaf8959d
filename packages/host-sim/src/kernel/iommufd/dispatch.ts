/** The ioctls of /dev/iommu by number. */
import { IOMMU_DESTROY, IommuDestroy } from '@remora/uapi';
import { ioasIoctls } from './ioas-ioctls.js';
import { faultIoctls } from './fault-queue.js';
import { dirtyIoctls } from './dirty-ioctls.js';
import { hardwareInfoIoctls } from './hw-info.js';
import { hardwareQueueIoctls } from './hw-queue.js';
import { hwptIoctls } from './hwpt-ioctls.js';
import { type IommufdIoctl, iommufdIoctl } from './ioctls.js';
import { optionIoctls } from './option-ioctls.js';
import { vdeviceIoctls } from './vdevice.js';
import { vfioIoasIoctls } from './vfio-ioas.js';
import { viommuIoctls } from './viommu.js';

const destroy = iommufdIoctl('IOMMU_DESTROY', IOMMU_DESTROY, IommuDestroy, (context, view) =>
  context.objects.destroy(IommuDestroy.fields.id.get(view)),
);

/** Every ioctl that a simulated /dev/iommu has. */
export const IOMMUFD_TABLE: readonly IommufdIoctl[] = [
  destroy,
  ...ioasIoctls,
  ...optionIoctls,
  ...vfioIoasIoctls,
  ...hwptIoctls,
  ...hardwareInfoIoctls,
  ...dirtyIoctls,
  ...faultIoctls,
  ...viommuIoctls,
  ...vdeviceIoctls,
  ...hardwareQueueIoctls,
];

export const IOMMUFD_BY_REQUEST: ReadonlyMap<number, IommufdIoctl> = new Map(
  IOMMUFD_TABLE.map(ioctl => [ioctl.request, ioctl]),
);
