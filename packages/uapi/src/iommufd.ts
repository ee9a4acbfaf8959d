/**
 * linux/iommufd.h, part one: objects, I/O address spaces, options. Every argument starts with `size`: what the caller has room for; the
 * kernel reads a shorter one as if it went on with zeros, and takes a longer one if that goes on with zeros.
 */
import { s32, u16, u32, u64 } from './field.js';
import { struct } from './struct.js';

const SOURCE = 'linux/iommufd.h';

/** ioctl numbers: _IO(';', n), so direction and size are 0. None is a number of VFIO. */
export const IOMMU_DESTROY = 0x3b80;
export const IOMMU_IOAS_ALLOC = 0x3b81;
export const IOMMU_IOAS_ALLOW_IOVAS = 0x3b82;
export const IOMMU_IOAS_COPY = 0x3b83;
export const IOMMU_IOAS_IOVA_RANGES = 0x3b84;
export const IOMMU_IOAS_MAP = 0x3b85;
export const IOMMU_IOAS_UNMAP = 0x3b86;
export const IOMMU_OPTION = 0x3b87;
export const IOMMU_VFIO_IOAS = 0x3b88;
export const IOMMU_IOAS_MAP_FILE = 0x3b8f;
export const IOMMU_IOAS_CHANGE_PROCESS = 0x3b92;
export const IOMMU_IOAS_NOIOMMU_GET_PA = 0x3b95;

export const IommuDestroy = struct('iommu_destroy', SOURCE, 8, {
  size: u32(0),
  id: u32(4),
});
export const IommuIoasAlloc = struct('iommu_ioas_alloc', SOURCE, 12, {
  size: u32(0),
  flags: u32(4),
  out_ioas_id: u32(8),
});
/** Both ends belong to the range. */
export const IommuIovaRange = struct('iommu_iova_range', SOURCE, 16, {
  start: u64(0),
  last: u64(8),
});
export const IommuIoasIovaRanges = struct('iommu_ioas_iova_ranges', SOURCE, 32, {
  size: u32(0),
  ioas_id: u32(4),
  num_iovas: u32(8),
  allowed_iovas: u64(16),
  out_iova_alignment: u64(24),
});
export const IommuIoasAllowIovas = struct('iommu_ioas_allow_iovas', SOURCE, 24, {
  size: u32(0),
  ioas_id: u32(4),
  num_iovas: u32(8),
  allowed_iovas: u64(16),
});
export const IommuIoasMap = struct('iommu_ioas_map', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  ioas_id: u32(8),
  user_va: u64(16),
  length: u64(24),
  iova: u64(32),
});
export const IommuIoasMapFile = struct('iommu_ioas_map_file', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  ioas_id: u32(8),
  fd: s32(12),
  start: u64(16),
  length: u64(24),
  iova: u64(32),
});
export const IommuIoasCopy = struct('iommu_ioas_copy', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  dst_ioas_id: u32(8),
  src_ioas_id: u32(12),
  length: u64(16),
  dst_iova: u64(24),
  src_iova: u64(32),
});
export const IommuIoasUnmap = struct('iommu_ioas_unmap', SOURCE, 24, {
  size: u32(0),
  ioas_id: u32(4),
  iova: u64(8),
  length: u64(16),
});
export const IommuOption = struct('iommu_option', SOURCE, 24, {
  size: u32(0),
  option_id: u32(4),
  op: u16(8),
  object_id: u32(12),
  val64: u64(16),
});
export const IommuVfioIoas = struct('iommu_vfio_ioas', SOURCE, 12, {
  size: u32(0),
  ioas_id: u32(4),
  op: u16(8),
});
export const IommuIoasChangeProcess = struct('iommu_ioas_change_process', SOURCE, 8, {
  size: u32(0),
});
export const IommuIoasNoiommuGetPa = struct('iommu_ioas_noiommu_get_pa', SOURCE, 40, {
  size: u32(0),
  flags: u32(4),
  ioas_id: u32(8),
  iova: u64(16),
  length: u64(24),
  out_phys: u64(32),
});

/** Of IOMMU_IOAS_MAP, MAP_FILE and COPY. */
export const IommuIoasMapFlag = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const;
/** `option_id`. */
export const IommuOptionId = { RLIMIT_MODE: 0, HUGE_PAGES: 1 } as const;
export const IommuOptionOp = { SET: 0, GET: 1 } as const;
export const IommuVfioIoasOp = { GET: 0, SET: 1, CLEAR: 2 } as const;
