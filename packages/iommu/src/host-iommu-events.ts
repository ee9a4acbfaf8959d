/** What a host reports of a function that it lends: the way back up, from a physical IOMMU to the guest's. */

import type { PageRequest } from './ats.js';

/**
 * A page request that the host queued for the function, with the guest's PASID. A group arrives whole, its last request last; PASID and
 * group index name it until `respondToPage`.
 */
export type HostPageRequest = Omit<PageRequest, 'requesterId'>;

/** A request of the function that the host's unit refused. */
export interface HostStage1Fault {
  /** The guest's PASID; NO_PASID for a request without one. */
  readonly pasid: number;
  /** Byte address of the faulting page. */
  readonly hi: number;
  readonly lo: number;
  /** READ, WRITE, EXECUTE and PRIVILEGED: WRITE alone is a write, with READ an atomic operation. */
  readonly access: number;
  /** PCIe address type: 0 untranslated, 1 translation request, 2 translated. */
  readonly addressType: 0 | 1 | 2;
  /** As the host's unit numbers its reasons; what it means follows from the context's `stage1Format`. */
  readonly reason: number;
}

/**
 * Takes a function's reports. But for `abandoned`, the host calls it from its own event loop, never from within an operation; `respondToPage`
 * may be called from within `pageRequest`. Every page request that is `last` gets exactly one response, unless listening ends before.
 */
export interface HostIommuEvents {
  pageRequest(request: HostPageRequest): void;
  fault(fault: HostStage1Fault): void;
  /** The host could not keep, or not deliver, some of its reports; `count` is 0 if it does not say how many. */
  lost(count: number): void;
  /**
   * What served requests with `pasid` (NO_PASID: without one) is gone, and the host has refused those that waited: it takes no response to
   * them any more. Called from within the operation that did it, before any request that comes later.
   */
  abandoned(pasid: number): void;
}
