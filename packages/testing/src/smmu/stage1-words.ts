/** What a guest's stream table entry asks for (smmuv3.md 10.4): the two double words of iommu_hwpt_arm_smmuv3. */
import { Errno } from '@remora/core';

export type SmmuStage1 =
  /** What the device sends is refused. */
  | { readonly kind: 'abort' }
  /** Guest-physical addresses: the second stage alone. */
  | { readonly kind: 'bypass' }
  /** The guest's context descriptors are at `contextHi`, `contextLo`. */
  | { readonly kind: 'translate'; readonly contextHi: number; readonly contextLo: number; readonly ats: boolean };

export const SMMU_STE_BYTES = 16;

/** V, Config, S1Fmt, S1ContextPtr, S1CDMax; then S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS: by 32 bits, the lowest first. */
const ALLOWED = [0xffff_ffff, 0xf80f_ffff, 0x3800_00ff, 0] as const;
const VALID = 1;
const CONFIG_SHIFT = 1;
const CONFIG_MASK = 7;
const CONFIG = { ABORT: 0, BYPASS: 4, STAGE1: 5 } as const;
const CONTEXT_HI_MASK = 0xf_ffff;
const CONTEXT_LO_MASK = ~0x3f;
const EATS_SHIFT = 28;
const EATS_MASK = 3;

/** -EIO for a bit that is not the guest's, a Config that is not one of stage 1, and EATS other than 0 and 1. An entry that is not valid aborts. */
export function readStage1Words(data: Uint8Array): SmmuStage1 | number {
  const view = new DataView(data.buffer, data.byteOffset, SMMU_STE_BYTES);
  const words = ALLOWED.map((_, word) => view.getUint32(word * 4, true));
  if ((words[0]! & VALID) === 0) return { kind: 'abort' };
  if (words.some((word, index) => (word & ~ALLOWED[index]!) !== 0)) return -Errno.EIO;
  const ats = (words[2]! >>> EATS_SHIFT) & EATS_MASK;
  if (ats > 1) return -Errno.EIO;
  switch ((words[0]! >>> CONFIG_SHIFT) & CONFIG_MASK) {
    case CONFIG.ABORT:
      return { kind: 'abort' };
    case CONFIG.BYPASS:
      return { kind: 'bypass' };
    case CONFIG.STAGE1:
      return {
        kind: 'translate',
        contextHi: words[1]! & CONTEXT_HI_MASK,
        contextLo: words[0]! & CONTEXT_LO_MASK,
        ats: ats === 1,
      };
    default:
      return -Errno.EIO;
  }
}
