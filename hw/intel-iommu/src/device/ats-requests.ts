/** Translation requests and translated requests: what a device TLB asks of the unit (VT-d 4.2, vtd.md 4.9). */
import { Access, NO_PASID, Translation } from '@remora/core';
import { AtsStatus, type AtsCompletion } from '@remora/iommu';
import { Fault, RequestType } from '../spec/index.js';
import { inInterruptRange } from './address.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { UnitState } from './state.js';
import type { Translator } from './translate.js';

/**
 * Whether the answer for an address in the interrupt range says that it may be used untranslated only: that is how a device sends an
 * interrupt. UNCONFIRMED.
 */
export const INTERRUPT_RANGE_UNTRANSLATED_ONLY = true;

/**
 * Reasons for which a request is refused as unsupported: the unit serves the device no ATS, or no PASIDs. Errors in the tables abort it.
 * Which of the two a failure is, is UNCONFIRMED.
 */
export const UNSUPPORTED_REASONS: ReadonlySet<number> = new Set([
  ...[Fault.LCT_5, Fault.SCT_5, Fault.SCT_6, Fault.SCT_7],
  ...[Fault.RTA_2, Fault.RTA_4],
]);

export class AtsRequests {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #state: UnitState;
  readonly #translator: Translator;
  readonly #answer = new Translation();

  constructor(caps: Capabilities, behaviour: Behaviour, state: UnitState, translator: Translator) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#state = state;
    this.#translator = translator;
  }

  /**
   * A translation request. `access` has READ, and WRITE unless the device does not need it (NW), and with a PASID EXECUTE and PRIVILEGED.
   * OK fills `out`; where nothing is mapped, or not what was asked for, its access says so. Anything else has been recorded.
   */
  translation(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: AtsCompletion,
  ): AtsStatus {
    clear(out, hi, lo);
    if (!this.#serves()) return AtsStatus.UNSUPPORTED;
    const wantsWrite = (access & Access.WRITE) !== 0 || !this.#caps.noWriteFlag;
    const mode = access & Access.PRIVILEGED;
    // A walk wants all that it is asked for, and marks pages as used for that: so what is missing is left out and asked for again.
    const both = wantsWrite ? Access.READ_WRITE : Access.READ;
    let reason = this.#attempt(requesterId, pasid, hi, lo, both | mode);
    if (reason === Fault.LGN_2 || reason === Fault.SGN_6) {
      reason = this.#attempt(requesterId, pasid, hi, lo, Access.READ | mode);
    }
    if (wantsWrite && (reason === Fault.LGN_3 || reason === Fault.SGN_7)) {
      reason = this.#attempt(requesterId, pasid, hi, lo, Access.WRITE | mode);
    }
    out.privileged = pasid !== NO_PASID && mode !== 0;
    if (reason !== 0) return this.#refused(reason, pasid, hi, lo, access, out);
    const executes = this.#caps.executeRequests && pasid !== NO_PASID && (access & Access.EXECUTE) !== 0;
    const answer = this.#answer;
    out.hi = answer.hi;
    out.lo = answer.lo;
    out.shift = answer.shift;
    out.access = answer.access & (executes ? Access.READ_WRITE | Access.EXECUTE : Access.READ_WRITE);
    return AtsStatus.OK;
  }

  /** Whether a translated request may go where it says. Anything but OK has been recorded. */
  translated(requesterId: number, pasid: number, hi: number, lo: number, access: number): AtsStatus {
    if (!this.#serves()) return AtsStatus.UNSUPPORTED;
    if (!this.#behaviour.translatedChecked) return pasid === NO_PASID ? AtsStatus.OK : AtsStatus.UNSUPPORTED;
    const reason = this.#translator.attempt(RequestType.TRANSLATED, requesterId, pasid, hi, lo, access, this.#answer);
    return reason === 0 ? AtsStatus.OK : this.#failed(reason, access);
  }

  /** Without ECAP.DT, and while translation is off, nothing of this kind is served, and nothing recorded (vtd.md 4.2, 4.3). */
  #serves(): boolean {
    return this.#caps.deviceTlb && this.#state.translationEnabled;
  }

  #attempt(requesterId: number, pasid: number, hi: number, lo: number, access: number): number {
    return this.#translator.attempt(RequestType.TRANSLATION, requesterId, pasid, hi, lo, access, this.#answer);
  }

  #refused(reason: number, pasid: number, hi: number, lo: number, access: number, out: AtsCompletion): AtsStatus {
    if (!this.#behaviour.recoverable.has(reason)) return this.#failed(reason, access);
    out.untranslatedOnly = INTERRUPT_RANGE_UNTRANSLATED_ONLY && pasid === NO_PASID && inInterruptRange(hi, lo);
    return AtsStatus.OK;
  }

  /** `access` is what the device asked for, which the record shows. */
  #failed(reason: number, access: number): AtsStatus {
    this.#translator.recordRefusal(reason, access);
    return UNSUPPORTED_REASONS.has(reason) ? AtsStatus.UNSUPPORTED : AtsStatus.ABORT;
  }
}

/** The answer that grants nothing. */
function clear(out: AtsCompletion, hi: number, lo: number): void {
  out.hi = hi >>> 0;
  out.lo = (lo & ~0xfff) >>> 0;
  out.shift = 12;
  out.access = 0;
  out.untranslatedOnly = false;
  out.privileged = false;
  out.global = false;
  out.nonSnooped = false;
}
