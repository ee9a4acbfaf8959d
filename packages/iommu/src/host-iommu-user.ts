/**
 * HostIommuUserOps: what a physical IOMMU's driver does for page tables that user space owns (Linux: iommufd). The host's kernel knows
 * objects, ids and lifetimes and no vendor; vendors' payloads travel through it as bytes, and their type numbers are those of
 * linux/iommufd.h.
 *
 * Results are 0 or a negated errno; when negative, what was in force before is in force still.
 */
import type { PageRequest } from './ats.js';
import type { HostMappings } from './host-iommu-driver.js';
import type { HostViommuOps } from './host-viommu.js';

/** What a paging domain is for: an option that the unit cannot have is -EOPNOTSUPP. */
export interface HostPagingOptions {
  /** Nested domains will stand on it. */
  readonly nestParent: boolean;
  /** The unit will note which pages were written; only functions whose unit can may be put behind it. */
  readonly dirtyTracking: boolean;
  /** It may serve requests with a PASID, and functions that have other domains at PASIDs. */
  readonly pasid: boolean;
  /** Page requests of what it serves are taken by the kernel (takePageRequests); otherwise the unit need not let functions send any. */
  readonly pageRequests: boolean;
}

/** Of a nested domain. */
export type HostNestedOptions = Pick<HostPagingOptions, 'pasid' | 'pageRequests'>;

/** A payload of GET_HW_INFO. */
export interface HostHardwareInfo {
  /** IOMMU_HW_INFO_TYPE_*. */
  readonly type: number;
  readonly data: Uint8Array;
}

/** A page table that the kernel writes: IOVAs, or a guest's physical addresses, to host frames. */
export interface HostPagingDomain extends HostMappings {
  readonly kind: 'paging';
  /** Page sizes as a bit set: bit n for 2^n bytes. */
  readonly pageSizes: number;
  /** Input width in bits: IOVAs lie below 2^addressWidth. */
  readonly addressWidth: number;
  /** Has the unit note which pages are written, in whatever it serves with this domain, or not. -EOPNOTSUPP unless it was made for that. */
  setDirtyTracking(on: boolean): number;
  /**
   * Reports runs of pages in the range that were written since they were reported last, ascending; with `clear` the unit notes them anew (its caches
   * forget them). What was written before tracking went off is reported, too.
   */
  readDirty(
    iovaFrame: number,
    pages: number,
    clear: boolean,
    report: ((iovaFrame: number, pages: number) => void) | undefined,
  ): number;
}

/** How far an array of invalidations was carried out. Owned by the domain and reused. */
export interface HostInvalidation {
  /** Entries that were done before the first that was refused. */
  processed: number;
  /** 0, or the negated errno of that one. */
  result: number;
}

/** A page table that user space (a guest) writes, over a paging domain that translates what it says. */
export interface HostNestedDomain extends Disposable {
  readonly kind: 'nested';
  readonly parent: HostPagingDomain;
  /**
   * Flushes what the unit, and the device TLBs behind it, cached of this domain wherever it is in force. `entries` holds `count` entries of
   * `entryLength` bytes each; `count` 0 asks whether the driver knows `dataType` (IOMMU_HWPT_INVALIDATE_DATA_*). -EINVAL for another type, and for
   * entries that do not have the length of its own. Absent: the unit flushes nested domains another way.
   */
  invalidate?(dataType: number, entryLength: number, entries: Uint8Array, count: number): HostInvalidation;
}

export type HostUserDomain = HostPagingDomain | HostNestedDomain;

export interface HostIommuUserOps {
  /** Whether paging domains can have dirty tracking. */
  readonly dirtyTracking: boolean;
  /** What the function's unit tells of itself. `type` 0 leaves the kind to the driver; -EOPNOTSUPP for one that it does not have. */
  hardwareInfo(requesterId: number, type: number): HostHardwareInfo | number;
  /** A new, empty paging domain. -EOPNOTSUPP, -ENOSPC if the unit has no tag left for it, -ENOMEM. */
  createPaging(options: HostPagingOptions): HostPagingDomain | number;
  /**
   * A nested domain as `data` (a payload of IOMMU_HWPT_DATA_*) describes it, over `parent`. -EOPNOTSUPP for a type or an option that the unit does not
   * have; -EINVAL for a parent that nothing can be nested on and for a payload that does not have the length of its type. What it says may be judged
   * here, or only when something is to be served by it (setDomain).
   */
  createNested(
    parent: HostPagingDomain,
    dataType: number,
    data: Uint8Array,
    options: HostNestedOptions,
  ): HostNestedDomain | number;
  /**
   * What serves requests of the function with `pasid` (NO_PASID: without one) from now on; undefined blocks them. Replaces at once what was there:
   * there is no moment at which neither is in force, unless the architecture cannot do that (then blocked is the only thing in between).
   * Afterwards neither the unit nor the function remembers anything of what was there. PASIDs and requests without PASID are set
   * independently of each other. -EINVAL for a domain that cannot serve this function there, -EBUSY while it is lent in another
   * way (HostIommuDomain.attach).
   */
  setDomain(requesterId: number, pasid: number, domain: HostUserDomain | undefined): number;
  /** Page requests that the unit has queued, oldest first. The kernel calls it when the unit's page-request message comes. */
  takePageRequests(): PageRequest[];
  /** Answers the group of `request`, the last of its group, with a PageResponse. */
  respond(request: PageRequest, code: number): number;
  /** What it lends to a VM as a whole; absent if it has nothing of the kind. */
  readonly viommu?: HostViommuOps;
}
