/**
 * HostIommuDriver: how a host kernel drives a physical IOMMU. The simulated kernel knows no vendor; a vendor's bare-metal driver
 * implements this on its unit's registers and queues. Results are 0 or a negated errno; when negative, nothing has changed.
 */
import type { HostIommuUserOps } from './host-iommu-user.js';
import type { Stage1Config, Stage1Flush } from './stage1.js';

export interface HostIommuDriver extends Disposable {
  /** Stage1Format that bindPasid takes; 0 if this unit cannot nest. */
  readonly stage1Format: number;
  /** Number of PASID bits; 0 if the unit has no PASIDs. */
  readonly pasidBits: number;
  /** Page sizes of the second stage as a bit set: bit n for 2^n bytes. */
  readonly pageSizes: number;
  /** Input width of the second stage in bits. */
  readonly addressWidth: number;
  /** Programs the unit and enables translation. A device without a domain is blocked from then on. */
  start(): void;
  /** A new, empty second-stage domain (IOVA or guest-physical to host-physical); -ENOSPC if the unit has no tag left for it, -ENOMEM. */
  createDomain(): HostIommuDomain | number;
  /** Faults that the unit recorded since the last call, oldest first; reading them clears them in the unit. */
  takeFaults(): HostIommuFault[];
  /** Page tables that user space owns; absent if the driver offers none. A function is lent one way or the other, not both. */
  readonly user?: HostIommuUserOps;
}

/** What a kernel maps in a page table of the unit. */
export interface HostMappings extends Disposable {
  /** The tag under which the unit caches this domain's translations (VT-d: domain id). */
  readonly id: number;
  /**
   * Maps `pages` 4 KiB pages from page frame `iovaFrame` to `hostFrame`, contiguous on both sides, with Access bits.
   * -EEXIST if any of them is mapped.
   */
  map(iovaFrame: number, hostFrame: number, pages: number, access: number): number;
  /**
   * Maps the page frames `hostFrames`, in whatever order they lie on the host, from page frame `iovaFrame` on. -EEXIST if any of the pages is
   * mapped. Linux: iommu_map_sg.
   */
  mapFrames(iovaFrame: number, hostFrames: Int32Array, access: number): number;
  /** Removes mappings and flushes what the unit cached of them. Pages that are not mapped are passed over. */
  unmap(iovaFrame: number, pages: number): number;
}

export interface HostIommuDomain extends HostMappings {
  /**
   * Takes `tag` in place of the one that the driver chose; two domains may have one tag if `sharing` is a domain that has it. -EINVAL if the
   * unit has no such tag (0 is none), -EBUSY if another domain has it and does not share it, -EPERM once a function was attached (Linux
   * says finalised). Absent where a driver's tags cannot be chosen (vsva.md 5.2, B01, B07).
   *
   * What the unit caches under a tag serves every function behind it: whoever shares one maps the same memory in all of its domains.
   */
  setTag?(tag: number, sharing?: HostIommuDomain): number;
  /** Puts the function with this requester id behind this domain for requests without PASID. */
  attach(requesterId: number): number;
  /** Blocks the function; its PASIDs must be unbound before (-EBUSY). */
  detach(requesterId: number): number;
  /** Nests `config` over this domain at `pasid` of an attached function. -EBUSY if one is there. */
  bindPasid(requesterId: number, pasid: number, config: Stage1Config): number;
  /** Removes the binding and flushes what the unit and the function cached of it. -EINVAL if there is none. */
  unbindPasid(requesterId: number, pasid: number): number;
  /** Flushes first-stage translations of a bound PASID. */
  flushStage1(requesterId: number, flush: Stage1Flush): number;
}

/** A fault as a host kernel logs it. */
export interface HostIommuFault {
  readonly requesterId: number;
  /** NO_PASID for a request without PASID. */
  readonly pasid: number;
  /** Byte address of the faulting page. */
  readonly hi: number;
  readonly lo: number;
  readonly write: boolean;
  /** The unit's own fault reason. */
  readonly reason: number;
}
