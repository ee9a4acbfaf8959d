import type { TxAttrs } from './memtx.js';

/**
 * What an IOMMU answers: owned by the caller, filled by the translator, never allocated on the way. QEMU: IOMMUTLBEntry.
 */
export class Translation {
  /** Base of the output page: the byte address, aligned to `1 << shift`. */
  hi = 0;
  lo = 0;
  /** log2 of the size of the range for which this answer holds: 12, 21, 30, 39, 48 ... (64 = everything). */
  shift = 12;
  /** Access bits granted. */
  access = 0;
}

/** An IOMMU region's behaviour: translates each access that falls into it. */
export interface IommuTranslator {
  /**
   * Translates `(hi, lo)` for `access` (Access bits). Returns 0 and fills `out`, or returns the unit's own non-zero fault
   * reason; the fault is then already recorded in the unit, as its architecture says.
   */
  translate(hi: number, lo: number, access: number, attrs: TxAttrs, out: Translation): number;
}
