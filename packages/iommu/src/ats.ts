/**
 * Address translation services: what a device that keeps translations of its own and the IOMMU above it say to each other (PCIe 10, ATS
 * and PRI). Neutral: every vendor's unit answers the same messages.
 */

/** The answer to a translation request: owned by the device, filled by the unit, never allocated on the way. */
export class AtsCompletion {
  /** Base of the translated page: the byte address, aligned to `1 << shift`. */
  hi = 0;
  lo = 0;
  /** log2 of the range in bytes for which the answer holds, 12 .. 63. */
  shift = 12;
  /** Access bits granted (READ, WRITE, EXECUTE); 0 if nothing is mapped there: the device may request the page. */
  access = 0;
  /** The address may be used as it is, untranslated, only (U). */
  untranslatedOnly = false;
  /** The answer is that of the privileged mode (Priv). */
  privileged = false;
  /** It holds in all address spaces of the device (Global). */
  global = false;
  /** Accesses need not be snooped (N). */
  nonSnooped = false;
}

/** What became of a translation request or translated request (PCIe completion status). */
export const AtsStatus = {
  OK: 0,
  /** Unsupported request: the IOMMU does not serve this device so. */
  UNSUPPORTED: 1,
  /** Completer abort: an error in the tables. */
  ABORT: 4,
} as const;
export type AtsStatus = (typeof AtsStatus)[keyof typeof AtsStatus];

/** A device asks for a page to be made present (PRI page request message). */
export interface PageRequest {
  readonly requesterId: number;
  /** NO_PASID without a PASID prefix. */
  readonly pasid: number;
  /** Byte address, aligned to 4 KiB. */
  readonly hi: number;
  readonly lo: number;
  /** READ, WRITE, EXECUTE and PRIVILEGED; without READ and WRITE, and with `last`, this is a stop marker. */
  readonly access: number;
  /** Page request group index, 0 .. 511. */
  readonly group: number;
  /** The last request of its group: the one that gets a response. */
  readonly last: boolean;
}

/** Response codes of a page request group (PCIe 10.4.2.2). */
export const PageResponse = { SUCCESS: 0, INVALID_REQUEST: 1, FAILURE: 15 } as const;

/** The device's side: what an IOMMU sends to a function with ATS. */
export interface AtsEndpoint {
  /**
   * Drops what it has of the `1 << shift` bytes (12 .. 64) around (hi, lo): of `pasid` (NO_PASID: of requests without one), or of all
   * PASIDs if `global`. Returns true if that is done; otherwise it calls `completed` once, when it is. A device that does neither
   * makes the unit run into its time-out.
   */
  invalidate(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed: () => void): boolean;
  /** The response to page request group `group`; `code` is a PageResponse, or reserved. Unexpected ones are ignored. */
  pageResponse(pasid: number, group: number, code: number): void;
}
