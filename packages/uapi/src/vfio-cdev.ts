/** linux/vfio.h, the part for devices that are opened by themselves (/dev/vfio/devices) and bound to an iommufd, or lend their memory to it. */
import { nested, s32, tail, u32, u64 } from './field.js';
import { struct } from './struct.js';

const SOURCE = 'linux/vfio.h';

/** ioctl numbers: _IO(';', 100 + n). On a device; 118 is the first that is asked of it. */
export const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
export const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;

export const VfioDeviceBindIommufd = struct('vfio_device_bind_iommufd', SOURCE, 24, {
  argsz: u32(0),
  flags: u32(4),
  iommufd: s32(8),
  out_devid: u32(12),
  token_uuid_ptr: u64(16),
});
export const VfioDeviceAttachIommufdPt = struct('vfio_device_attach_iommufd_pt', SOURCE, 16, {
  argsz: u32(0),
  flags: u32(4),
  pt_id: u32(8),
  pasid: u32(12),
});
export const VfioDeviceDetachIommufdPt = struct('vfio_device_detach_iommufd_pt', SOURCE, 12, {
  argsz: u32(0),
  flags: u32(4),
  pasid: u32(8),
});

export const VfioDeviceBindFlag = { TOKEN: 1 } as const;
export const VfioDeviceAttachFlag = { PASID: 1 } as const;
export const VfioDeviceDetachFlag = { PASID: 1 } as const;

/** Feature: a dma-buf of parts of a region. GET answers with its descriptor. */
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;
export const VfioRegionDmaRange = struct('vfio_region_dma_range', SOURCE, 16, { offset: u64(0), length: u64(8) });
export const VfioDeviceFeatureDmaBuf = struct('vfio_device_feature_dma_buf', SOURCE, 16, {
  region_index: u32(0),
  open_flags: u32(4),
  flags: u32(8),
  nr_ranges: u32(12),
  dma_ranges: tail(16, offset => nested(offset, VfioRegionDmaRange)),
});
