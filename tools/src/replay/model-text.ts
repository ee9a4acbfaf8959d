/** What a unit of the model answers, in the words of a recording: for the unit that is recorded, and for the one that it is compared with. */
import { Access, type Translation } from '@remora/core';
import type { RemappedInterrupt } from '@remora/iommu';
import {
  blockedText,
  faultText,
  type InterruptRequest,
  refusedText,
  remappedText,
  translatedText,
  type TranslationRequest,
} from './trace-text.js';
import type { Words } from './words.js';

const PAGE = 12;
const EVERYTHING = 64;

/** What VtdUnit.translate answered; `off`: translation was disabled. */
export function translationText(
  request: TranslationRequest,
  reason: number,
  { hi, lo, shift, access }: Translation,
  off: boolean,
): string {
  if (reason !== 0) return refusedText(request, reason);
  // The model says "everything, as it is"; recordings say so page by page.
  if (shift === EVERYTHING)
    return translatedText(request, pageOf(request.address), rangeMask(PAGE), access & Access.READ_WRITE, off);
  return translatedText(request, { hi, lo }, rangeMask(shift), access, off);
}

/** What VtdUnit.remapInterrupt answered. Recordings do not tell of faults that an entry's FPD `suppressed`: their reason is 0. */
export function remappingText(
  request: InterruptRequest,
  reason: number,
  out: RemappedInterrupt,
  suppressed: boolean,
): string {
  if (reason === 0) return remappedText(request, { hi: out.hi, lo: out.lo }, out.data);
  return blockedText(request, suppressed || !request.report ? 0 : reason);
}

/** The size of a range of 2^shift bytes, minus 1. */
export function rangeMask(shift: number): Words {
  return { hi: shift > 32 ? 2 ** (shift - 32) - 1 : 0, lo: shift >= 32 ? 0xffff_ffff : 2 ** shift - 1 };
}

/** A fault record's words, the source id being in the third. */
export function recordText(record: Int32Array): string {
  const [address = 0, addressHi = 0, source = 0, sourceHi = 0] = record;
  return faultText(source & 0xffff, { hi: sourceHi, lo: source }, { hi: addressHi, lo: address });
}

function pageOf({ hi, lo }: Words): Words {
  return { hi, lo: (lo & -(2 ** PAGE)) >>> 0 };
}
