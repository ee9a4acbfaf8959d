import type { UapiVariant } from '@remora/uapi';
import type { IovaRange } from './iova-ranges.js';
import type { VmidDefects } from './vmid-defects.js';

/** What kind of kernel the simulated host runs: the differences that a VMM has to cope with. */
export interface KernelKnobs {
  /**
   * Which meaning ioctls 122 and 123 have in containers opened from now on: PASID_REQUEST and BIND, or GET_VMID and SET_VMID.
   * Never both: the two proposals chose the same numbers.
   */
  uapi: UapiVariant;
  /**
   * Of which Linux VFIO's answers are, where they differ: the one that RFC v3.1 was written for, or 6.1 or 7.2, as they were asked
   * (test/fixtures/real-kernel). `nestingType` and `nestingUapiVersion` are the RFC's alone.
   */
  release: 'rfc' | '6.1' | '7.2';
  /** What a kernel of the VMID series does wrong. */
  vmidDefects: VmidDefects;
  /** Who answers /dev/vfio/vfio: VFIO's own type 1, or iommufd in its place (Linux: CONFIG_IOMMUFD_VFIO_CONTAINER). */
  vfioContainer: 'type1' | 'iommufd';
  /** Whether there is a /dev/iommu. */
  iommufd: boolean;
  /** Bytes that a user, or a process, may pin through it: RLIMIT_MEMLOCK; undefined: as many as there are. */
  memlock: number | undefined;
  /** Whether IOMMU_IOAS_NOIOMMU_GET_PA tells where pages are. */
  noiommu: boolean;
  /** Whether VFIO_TYPE1_NESTING_IOMMU is offered, on a unit that nests. */
  nestingType: boolean;
  /** What VFIO_CHECK_EXTENSION answers for VFIO_NESTING_IOMMU_UAPI: a version, 0 (unknown extension) or a negated errno. */
  nestingUapiVersion: number;
  /** Whether GET_INFO of a nesting container carries the nesting capability. */
  nestingCapability: boolean;
  /** Whether that capability offers PASID requests. */
  pasidRequests: boolean;
  /** The first-stage format that it reports and that BIND takes; undefined: that of the unit. */
  stage1Format: number | undefined;
  /** How many PASIDs a process may own. */
  pasidQuota: number;
  /** How many DMA mappings a container may have: the module parameter dma_entry_limit of vfio_iommu_type1. */
  dmaEntryLimit: number;
  /** IOVAs that no container may map. */
  reservedIova: readonly IovaRange[];
  /** Bits of IOVA that containers may use, if those are fewer than the unit translates. */
  iovaWidth: number;
  /**
   * Whether a VMM can have the unrecoverable faults of nested VT-d page tables: a vIOMMU and vEVENTQ type of Remora's own (REMORA_VTD_EVENTS). Linux
   * 7.3.4 has nothing of the kind.
   */
  vtdEvents: boolean;
}

/** Where x86 devices send their MSIs. */
const MSI_WINDOW: IovaRange = { startFrame: 0xf_ee00, endFrame: 0xf_ef00 };

/** The kernel that RFC v3.1 was written for. */
export const DEFAULT_KNOBS: KernelKnobs = {
  uapi: 'vsva-rfc-v3.1',
  release: 'rfc',
  vmidDefects: {},
  vfioContainer: 'type1',
  iommufd: true,
  memlock: undefined,
  noiommu: false,
  nestingType: true,
  nestingUapiVersion: 1,
  nestingCapability: true,
  pasidRequests: true,
  stage1Format: undefined,
  pasidQuota: 1000,
  dmaEntryLimit: 65535,
  reservedIova: [MSI_WINDOW],
  iovaWidth: 64,
  vtdEvents: false,
};
