/** linux/vfio.h, as far as a VFIO client and a type1 kernel use it. Sizes are those without trailing padding of newer headers. */
import { struct, u16, u32, u64 } from './struct.js';

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

export const VfioGroupStatus = struct('vfio_group_status', VFIO, 8, { argsz: u32(0), flags: u32(4) });
export const VfioGroupFlag = { VIABLE: 1, CONTAINER_SET: 2 } as const;

export const VfioDeviceInfo = struct('vfio_device_info', VFIO, 20, {
  argsz: u32(0),
  flags: u32(4),
  num_regions: u32(8),
  num_irqs: u32(12),
  cap_offset: u32(16),
});
export const VfioDeviceFlag = { RESET: 1, PCI: 2, CAPS: 0x80 } as const;

export const VfioRegionInfo = struct('vfio_region_info', VFIO, 32, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  cap_offset: u32(12),
  size: u64(16),
  offset: u64(24),
});
export const VfioRegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;
export const VfioPciRegion = { BAR0: 0, BAR5: 5, ROM: 6, CONFIG: 7, VGA: 8 } as const;
export const VFIO_PCI_NUM_REGIONS = 9;

export const VfioIrqInfo = struct('vfio_irq_info', VFIO, 16, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  count: u32(12),
});
export const VfioIrqInfoFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;
export const VfioPciIrq = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
export const VFIO_PCI_NUM_IRQS = 5;

/** `data` follows: `count` bytes (DATA_BOOL) or signed 32-bit fds (DATA_EVENTFD; -1 takes one away). */
export const VfioIrqSet = struct('vfio_irq_set', VFIO, 20, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  start: u32(12),
  count: u32(16),
});
export const VfioIrqSetFlag = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 0x10,
  ACTION_TRIGGER: 0x20,
} as const;

export const VfioIommuType1Info = struct('vfio_iommu_type1_info', VFIO, 24, {
  argsz: u32(0),
  flags: u32(4),
  iova_pgsizes: u64(8),
  cap_offset: u32(16),
});
export const VfioIommuInfoFlag = { PGSIZES: 1, CAPS: 2 } as const;

/** Starts every capability of an information chain; `next` counts from the start of the buffer, 0 ends the chain. */
export const VfioInfoCapHeader = struct('vfio_info_cap_header', VFIO, 8, { id: u16(0), version: u16(2), next: u32(4) });
export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;

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
  size: u64(16),
});
export const VfioDmaUnmapFlag = { GET_DIRTY_BITMAP: 1, ALL: 2, VADDR: 4 } as const;
