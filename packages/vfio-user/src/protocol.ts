/**
 * The messages of vfio-user 0.0, a public protocol: https://www.qemu.org/docs/master/interop/vfio-user.html. What the protocol takes over
 * from linux/vfio.h is in @remora/uapi.
 */
import { struct, u16, u32, u64 } from '@remora/uapi';

const SPEC = 'vfio-user.rst';

export const VERSION_MAJOR = 0;
export const VERSION_MINOR = 0;

export const VfioUserCommand = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  /** This one and the next go from the server to the client. */
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  /** Of older drafts; no longer in the specification. */
  DIRTY_PAGES: 14,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;

export const Header = struct('vfio_user_header', SPEC, 16, {
  id: u16(0),
  command: u16(2),
  /** Of the whole message, header included. */
  size: u32(4),
  flags: u32(8),
  /** A Linux error number, in replies with HeaderFlag.ERROR. */
  error: u32(12),
});

/** Bits 3:0 of a header's flags: what kind of message. */
export const HEADER_TYPE_MASK = 0xf;
export const HeaderType = { COMMAND: 0, REPLY: 1 } as const;
export const HeaderFlag = { NO_REPLY: 0x10, ERROR: 0x20 } as const;

/** A NUL-terminated JSON text may follow. */
export const Version = struct('vfio_user_version', SPEC, 4, { major: u16(0), minor: u16(2) });

export const DmaMap = struct('vfio_user_dma_map', SPEC, 32, {
  argsz: u32(0),
  flags: u32(4),
  /** In the file that the memory is in. */
  offset: u64(8),
  address: u64(16),
  size: u64(24),
});
export const DmaMapFlag = { READABLE: 1, WRITEABLE: 2 } as const;

export const DmaUnmap = struct('vfio_user_dma_unmap', SPEC, 24, {
  argsz: u32(0),
  flags: u32(4),
  address: u64(8),
  size: u64(16),
});
/** As linux/vfio.h has them for VFIO_IOMMU_UNMAP_DMA; the specification leaves the field unused. */
export const DmaUnmapFlag = { GET_DIRTY_BITMAP: 1, ALL: 2 } as const;

/** linux/vfio.h's structure has a further field today. */
export const DeviceInfo = struct('vfio_user_device_info', SPEC, 16, {
  argsz: u32(0),
  flags: u32(4),
  num_regions: u32(8),
  num_irqs: u32(12),
});

/** Starts REGION_READ and REGION_WRITE, requests and replies; `count` bytes follow where they travel. */
export const RegionAccess = struct('vfio_user_region_access', SPEC, 16, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
});

/** Starts REGION_WRITE_MULTI; `wr_cnt` writes follow. It is the whole reply. */
export const WriteMulti = struct('vfio_user_write_multi', SPEC, 8, { wr_cnt: u64(0) });
/** The first `count` bytes of 8 are to be written. */
export const WriteMultiOne = struct('vfio_user_write_multi_one', SPEC, 24, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
  data: u64(16),
});

/** Starts DMA_READ and DMA_WRITE; `count` bytes follow where they travel. */
export const DmaAccess = struct('vfio_user_dma_access', SPEC, 16, { address: u64(0), count: u64(8) });

/** The page size that maps are multiples of. */
export const PAGE_SIZE = 4096;
/** Both are the specification's defaults. */
export const MAX_DATA_XFER_SIZE = 0x10_0000;
export const MAX_DMA_MAPS = 65_535;
