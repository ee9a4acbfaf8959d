/**
 * linux/vfio.h, as far as a VFIO client and a type1 kernel use it. `argsz` is what the caller has room for; the kernel answers with
 * what it would need. Newer headers make the hole at the end of some structures explicit, which argsz allows.
 */
import { nested, s32, tail, u16, u32, u64, u8 } from './field.js';
import { struct } from './struct.js';

const VFIO = 'linux/vfio.h';

export const VFIO_API_VERSION = 0;

/** ioctl numbers: all are _IO(';', 100 + n), so direction and size are 0. */
export const VFIO_GET_API_VERSION = 0x3b64;
export const VFIO_CHECK_EXTENSION = 0x3b65;
export const VFIO_SET_IOMMU = 0x3b66;
export const VFIO_GROUP_GET_STATUS = 0x3b67;
export const VFIO_GROUP_SET_CONTAINER = 0x3b68;
export const VFIO_GROUP_UNSET_CONTAINER = 0x3b69;
export const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;
export const VFIO_DEVICE_GET_INFO = 0x3b6b;
export const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
export const VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d;
export const VFIO_DEVICE_SET_IRQS = 0x3b6e;
export const VFIO_DEVICE_RESET = 0x3b6f;
export const VFIO_IOMMU_GET_INFO = 0x3b70;
/** On a device; the number is also that of VFIO_IOMMU_DIRTY_PAGES, on a container. */
export const VFIO_DEVICE_FEATURE = 0x3b75;
export const VFIO_IOMMU_MAP_DMA = 0x3b71;
export const VFIO_IOMMU_UNMAP_DMA = 0x3b72;

/** IOMMU types, which are also extension numbers. */
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_SPAPR_TCE_IOMMU = 2;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_EEH = 5;
export const VFIO_TYPE1_NESTING_IOMMU = 6;
export const VFIO_SPAPR_TCE_v2_IOMMU = 7;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;
export const VFIO_UPDATE_VADDR = 10;

/** Starts every capability of an information chain; `next` counts from the start of the buffer, 0 ends the chain. */
export const VfioInfoCapHeader = struct('vfio_info_cap_header', VFIO, 8, { id: u16(0), version: u16(2), next: u32(4) });

/** What VFIO_GROUP_SET_CONTAINER points to. */
export const VfioContainerFd = struct('vfio_container_fd', VFIO, 4, { fd: s32(0) });

export const VfioGroupStatus = struct('vfio_group_status', VFIO, 8, { argsz: u32(0), flags: u32(4) });
export const VfioGroupFlag = { VIABLE: 1, CONTAINER_SET: 2 } as const;

export const VfioDeviceInfo = struct('vfio_device_info', VFIO, 20, {
  argsz: u32(0),
  flags: u32(4),
  num_regions: u32(8),
  num_irqs: u32(12),
  cap_offset: u32(16),
});
export const VfioDeviceFlag = {
  RESET: 1,
  PCI: 2,
  PLATFORM: 4,
  AMBA: 8,
  CCW: 0x10,
  AP: 0x20,
  FSL_MC: 0x40,
  CAPS: 0x80,
} as const;

export const VfioRegionInfo = struct('vfio_region_info', VFIO, 32, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  cap_offset: u32(12),
  size: u64(16),
  offset: u64(24),
});
export const VfioRegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
/** `index` of a PCI device's regions. */
export const VfioPciRegion = {
  BAR0: 0,
  BAR1: 1,
  BAR2: 2,
  BAR3: 3,
  BAR4: 4,
  BAR5: 5,
  ROM: 6,
  CONFIG: 7,
  VGA: 8,
} as const;
export const VFIO_PCI_NUM_REGIONS = 9;

export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_TYPE = 2;
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;
export const VfioRegionSparseMmapArea = struct('vfio_region_sparse_mmap_area', VFIO, 16, {
  offset: u64(0),
  size: u64(8),
});
/** Only these parts of the region may be mapped. */
export const VfioRegionInfoCapSparseMmap = struct('vfio_region_info_cap_sparse_mmap', VFIO, 16, {
  header: nested(0, VfioInfoCapHeader),
  nr_areas: u32(8),
  areas: tail(16, offset => nested(offset, VfioRegionSparseMmapArea)),
});
export const VfioRegionInfoCapType = struct('vfio_region_info_cap_type', VFIO, 16, {
  header: nested(0, VfioInfoCapHeader),
  type: u32(8),
  subtype: u32(12),
});

export const VfioIrqInfo = struct('vfio_irq_info', VFIO, 16, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  count: u32(12),
});
export const VfioIrqInfoFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;
/** `index` of a PCI device's interrupts. */
export const VfioPciIrq = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
export const VFIO_PCI_NUM_IRQS = 5;

/** `data` is `count` bytes (DATA_BOOL) or file descriptors (DATA_EVENTFD; -1 takes one away). */
export const VfioIrqSet = struct('vfio_irq_set', VFIO, 20, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  start: u32(12),
  count: u32(16),
  data: tail(20, u8),
});
export const VfioIrqSetFlag = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 0x10,
  ACTION_TRIGGER: 0x20,
} as const;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 7;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;

/** `data` is the feature's own structure, where GET or SET moves one. */
export const VfioDeviceFeature = struct('vfio_device_feature', VFIO, 8, {
  argsz: u32(0),
  flags: u32(4),
  data: tail(8, u8),
});
/** Low bits of `flags`: which feature. */
export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VfioDeviceFeatureFlag = { GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000 } as const;

/** Feature: whether and how the device's own state can be moved to another host. */
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
export const VfioDeviceFeatureMigration = struct('vfio_device_feature_migration', VFIO, 8, { flags: u64(0) });
export const VfioMigrationFlag = { STOP_COPY: 1, P2P: 2 } as const;

/** Feature: the state of migration. SET answers with a descriptor from which, or to which, the device's state is transferred. */
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
export const VfioDeviceFeatureMigState = struct('vfio_device_feature_mig_state', VFIO, 8, {
  device_state: u32(0),
  data_fd: s32(4),
});
export const VfioDeviceState = { ERROR: 0, STOP: 1, RUNNING: 2, STOP_COPY: 3, RESUMING: 4, RUNNING_P2P: 5 } as const;

export const VfioIommuType1Info = struct('vfio_iommu_type1_info', VFIO, 24, {
  argsz: u32(0),
  flags: u32(4),
  iova_pgsizes: u64(8),
  cap_offset: u32(16),
});
export const VfioIommuInfoFlag = { PGSIZES: 1, CAPS: 2 } as const;

export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
/** Both ends belong to the range. */
export const VfioIovaRange = struct('vfio_iova_range', VFIO, 16, { start: u64(0), end: u64(8) });
export const VfioIommuType1InfoCapIovaRange = struct('vfio_iommu_type1_info_cap_iova_range', VFIO, 16, {
  header: nested(0, VfioInfoCapHeader),
  nr_iovas: u32(8),
  iova_ranges: tail(16, offset => nested(offset, VfioIovaRange)),
});

export const VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2;
export const VfioIommuType1InfoCapMigration = struct('vfio_iommu_type1_info_cap_migration', VFIO, 32, {
  header: nested(0, VfioInfoCapHeader),
  flags: u32(8),
  pgsize_bitmap: u64(16),
  max_dirty_bitmap_size: u64(24),
});

export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;
export const VfioIommuType1InfoDmaAvail = struct('vfio_iommu_type1_info_dma_avail', VFIO, 12, {
  header: nested(0, VfioInfoCapHeader),
  /** Mappings that may still be made. */
  avail: u32(8),
});

export const VfioIommuType1DmaMap = struct('vfio_iommu_type1_dma_map', VFIO, 32, {
  argsz: u32(0),
  flags: u32(4),
  vaddr: u64(8),
  iova: u64(16),
  size: u64(24),
});
export const VfioDmaMapFlag = { READ: 1, WRITE: 2, VADDR: 4 } as const;

export const VfioIommuType1DmaUnmap = struct('vfio_iommu_type1_dma_unmap', VFIO, 24, {
  argsz: u32(0),
  flags: u32(4),
  iova: u64(8),
  /** The kernel answers with what it unmapped. */
  size: u64(16),
  data: tail(24, u8),
});
export const VfioDmaUnmapFlag = { GET_DIRTY_BITMAP: 1, ALL: 2, VADDR: 4 } as const;
