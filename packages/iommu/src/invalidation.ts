/**
 * A neutral invalidation: what a vendor's command decodes to. One object, owned by the unit and reused; receivers copy what they
 * keep. Everything in scope must be gone from a receiver's caches when it returns.
 */
export const InvalidationScope = {
  /** Everything. */
  GLOBAL: 0,
  /** One domain (VT-d, AMD: domain id; SMMUv3: VMID). */
  DOMAIN: 1,
  /** One PASID (SMMUv3: ASID or SSID) of one domain. */
  PASID: 2,
  /** A range of pages in a domain or, with a PASID, in that PASID. */
  PAGES: 3,
} as const;

/** Which stage's translations are meant. Combined entries (nested) belong to both. */
export const InvalidationStage = { FIRST: 1, SECOND: 2, BOTH: 3 } as const;

export class Invalidation {
  scope: number = InvalidationScope.GLOBAL;
  stage: number = InvalidationStage.BOTH;
  domain = 0;
  /** NO_PASID where none is named. */
  pasid = -1;
  /** First byte address of the range, aligned to its size. */
  hi = 0;
  lo = 0;
  /** log2 of the range in bytes (12 .. 64); for PAGES. */
  shift = 12;
  /** Only leaf entries changed. */
  leaf = false;
}
