/** The fault handler: reads and clears the fault recording registers as Linux does (vtd.md 6.2). */
import { NO_PASID } from '@remora/core';
import { FaultRecord, FaultStatus, FRCD_F, FRCD_F_OFFSET, Fsts, Reg } from '../spec/index.js';
import type { VtdCapabilities } from './capabilities.js';
import type { VtdRegisters } from './registers.js';

/** A fault record. */
export interface VtdFault {
  readonly requesterId: number;
  /** NO_PASID for a request without PASID. */
  readonly pasid: number;
  /** Byte address of the page; for an interrupt fault the interrupt index is in bits 63:48. */
  readonly hi: number;
  readonly lo: number;
  readonly write: boolean;
  /** `Fault` in `spec`. */
  readonly reason: number;
}

/** What the handler clears in FSTS at the end: PFO, and what it has dealt with (PPF, PRO) though hardware ignores it. */
const HANDLED = 0x83;

/** Takes a fault, with the record as the unit wrote it, or leaves it (false). */
export type FaultClaim = (fault: VtdFault, record: Int32Array) => boolean;

/**
 * Reads the pending records from the first one (FSTS.FRI) on and clears them; what `claim` takes is not among the result. Does nothing while
 * FSTS.PPF is clear.
 */
export function takeFaultRecords(
  registers: VtdRegisters,
  capabilities: VtdCapabilities,
  claim?: FaultClaim,
): VtdFault[] {
  const faults: VtdFault[] = [];
  const words = new Int32Array(FaultRecord.words);
  words[0] = registers.read32(Reg.FSTS);
  if ((words[0] & Fsts.PPF) === 0) return faults;
  const records = capabilities.cap.nfr + 1;
  const first = FaultStatus.fields.fri.get(words, 0);
  // Once more than there are records: the first may have been filled again. The unit must not keep us here for ever.
  for (let count = 0; count <= records; count++) {
    const at = capabilities.faultRecords + ((first + count) % records) * FaultRecord.bytes;
    words[3] = registers.read32(at + FRCD_F_OFFSET);
    if ((words[3] & FRCD_F) === 0) break;
    words[2] = registers.read32(at + 8);
    registers.read64(at, words);
    // Before anybody hears of it: whoever claims it may come here again.
    registers.write32(at + FRCD_F_OFFSET, FRCD_F);
    const fault = decodeFault(words);
    if (claim?.(fault, words) !== true) faults.push(fault);
  }
  registers.write32(Reg.FSTS, HANDLED);
  return faults;
}

function decodeFault(words: Int32Array): VtdFault {
  const { sid, pp, pv, t1, t2, fr } = FaultRecord.fields;
  return {
    requesterId: sid.get(words, 0),
    pasid: pp.get(words, 0) ? pv.get(words, 0) : NO_PASID,
    hi: words[1]!,
    lo: words[0]!,
    write: t1.get(words, 0) === 0 && t2.get(words, 0) === 0,
    reason: fr.get(words, 0),
  };
}
