import type { UapiVariant } from '@remora/uapi';

/** What kind of kernel the simulated host runs: the differences that a VMM has to cope with. */
export interface KernelKnobs {
  /**
   * Which meaning ioctls 122 and 123 have in containers opened from now on: PASID_REQUEST and BIND, or GET_VMID and SET_VMID.
   * Never both: the two proposals chose the same numbers.
   */
  uapi: UapiVariant;
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
}

/** The kernel that RFC v3.1 was written for. */
export const DEFAULT_KNOBS: KernelKnobs = {
  uapi: 'vsva-rfc-v3.1',
  nestingType: true,
  nestingUapiVersion: 1,
  nestingCapability: true,
  pasidRequests: true,
  stage1Format: undefined,
  pasidQuota: 1000,
};
