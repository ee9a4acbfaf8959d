/**
 * A first-stage (stage-1) configuration on its way to a host: what a guest's PASID entry, context descriptor or DTE says about
 * its own page tables. The attributes differ by vendor, so they travel under the vendor's format.
 */
export const Stage1Format = {
  /** IOMMU_PASID_FORMAT_INTEL_VTD (RFC v3.1 linux/iommu.h). */
  INTEL_VTD: 1,
} as const;

/** Attributes of a VT-d first stage [A14]. Flags are 0 or 1. */
export interface VtdStage1 {
  readonly format: typeof Stage1Format.INTEL_VTD;
  readonly sre: number;
  readonly eafe: number;
  readonly pcd: number;
  readonly pwt: number;
  readonly emte: number;
  readonly cd: number;
  /** Page attribute table, 32 bits. */
  readonly pat: number;
  /** Extended memory type, 3 bits. */
  readonly emt: number;
}

export interface Stage1Config {
  /** Guest-physical byte address of the first-stage root, 4 KiB aligned, as two words. */
  readonly rootHi: number;
  readonly rootLo: number;
  /** Input address width in bits: 48 or 57 for VT-d. */
  readonly addressWidth: number;
  readonly attributes: VtdStage1;
}

/** Whether both configure the same: the words' bits count, not their signs. */
export function sameStage1(a: Stage1Config, b: Stage1Config): boolean {
  const one = a.attributes;
  const other = b.attributes;
  return (
    a.rootHi >>> 0 === b.rootHi >>> 0 &&
    a.rootLo >>> 0 === b.rootLo >>> 0 &&
    a.addressWidth === b.addressWidth &&
    one.format === other.format &&
    one.sre === other.sre &&
    one.eafe === other.eafe &&
    one.pcd === other.pcd &&
    one.pwt === other.pwt &&
    one.emte === other.emte &&
    one.cd === other.cd &&
    one.pat >>> 0 === other.pat >>> 0 &&
    one.emt === other.emt
  );
}

/** A first-stage cache flush [A18, A20]. Owned by the caller and reused: a host copies what it keeps. */
export class Stage1Flush {
  /** 'pasid': everything of the PASID. 'address': the pages below. */
  granularity: 'pasid' | 'address' = 'pasid';
  pasid = 0;
  /** Only leaf entries changed: paging-structure caches may stay. */
  leaf = false;
  /** First byte address, aligned to the granule. */
  hi = 0;
  lo = 0;
  /** log2 of the granule in bytes, 12 .. 63. */
  granuleShift = 12;
  /** How many granules. */
  granules = 1;
}
