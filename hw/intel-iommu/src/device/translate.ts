/** One request's way through the unit (VT-d 3.3, vtd.md 4.2 to 4.4). Nothing here allocates. */
import { hex } from '@remora/bits';
import * as core from '@remora/core';
import type { Translation } from '@remora/core';
import type { Iotlb } from '@remora/iommu';
import * as spec from '../spec/index.js';
import { baseMaskHi, baseMaskLo, inInterruptRange, isBeyond, overlapsInterruptRange } from './address.js';
import { LEGACY_SECOND_STAGE, type Behaviour, type SecondStageFaults } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import * as contexts from './context-cache.js';
import type { FaultRecording } from './fault-recording.js';
import * as firstStage from './first-stage.js';
import type { FirstStageWalk } from './first-stage.js';
import * as lookups from './lookup.js';
import type { Lookup } from './lookup.js';
import * as pasids from './pasid-entry-cache.js';
import type { PassingRequesters } from './passing-requesters.js';
import type { RequesterIotlb } from './requester-iotlb.js';
import * as secondStage from './second-stage.js';
import type { SecondStageWalk } from './second-stage.js';
import type { UnitState } from './state.js';
import type { VtdTrace } from './trace-events.js';

// The module's own, for speed: see second-stage.ts.
const { Access, NO_PASID } = core;
const { Fault, Pgtt, RequestType, Ttm } = spec;
const { Ctx, CtxFlag } = contexts;
const { Mark } = firstStage;
const { TlbKind } = lookups;
const { Pe, PeFlag } = pasids;
const { AdUpdate } = secondStage;

const EVERYTHING_SHIFT = 64;
const PAGE_SHIFT = 12;
const ALL_ACCESS = Access.READ_WRITE | Access.EXECUTE;
/** Neither refused nor answered: the walk decides. */
const UNDECIDED = -1;
/**
 * What a translated request to an address beyond the host width is: the reasons of pass-through, which uses addresses as they are, too.
 * UNCONFIRMED.
 */
export const TRANSLATED_BEYOND_WIDTH = { legacy: Fault.LGN_1, scalable: Fault.SGN_4 } as const;

export class Translator {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #state: UnitState;
  readonly #lookup: Lookup;
  readonly #iotlb: Iotlb;
  /** Takes the place of lookups and inserts by address-space id in the compatible profile. */
  readonly #byRequester: RequesterIotlb | undefined;
  readonly #passing: PassingRequesters | undefined;
  readonly #legacyReasons: SecondStageFaults;
  readonly #first: FirstStageWalk;
  readonly #second: SecondStageWalk;
  readonly #faults: FaultRecording;
  readonly #trace: VtdTrace;
  // The request being translated, for its fault record.
  #type: number = RequestType.UNTRANSLATED;
  #requesterId = 0;
  #pasid = NO_PASID as number;
  #hi = 0;
  #lo = 0;
  #access = 0;
  /** The PASID whose entry is in use; NO_PASID in legacy mode. */
  #lookupPasid = NO_PASID as number;
  // How the last attempt was refused.
  #refusedFpd = false;
  #refusedWalking = false;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    state: UnitState,
    lookup: Lookup,
    iotlb: Iotlb,
    first: FirstStageWalk,
    second: SecondStageWalk,
    faults: FaultRecording,
    byRequester: RequesterIotlb | undefined,
    passing: PassingRequesters | undefined,
    trace: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#state = state;
    this.#lookup = lookup;
    this.#iotlb = iotlb;
    this.#byRequester = byRequester;
    this.#passing = passing;
    this.#legacyReasons =
      behaviour.interruptReasonByCapability && caps.scalable
        ? { ...LEGACY_SECOND_STAGE, interruptRange: Fault.SGN_8 }
        : LEGACY_SECOND_STAGE;
    this.#first = first;
    this.#second = second;
    this.#faults = faults;
    this.#trace = trace;
  }

  /** Translates one untranslated request. Returns 0 and fills `out`, or the fault reason, which has then been recorded. */
  translate(requesterId: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    const state = this.#state;
    if (!state.translationEnabled || (pasid === NO_PASID && this.#passing?.has(requesterId) === true)) {
      out.hi = 0;
      out.lo = 0;
      out.shift = EVERYTHING_SHIFT;
      out.access = ALL_ACCESS;
      return 0;
    }
    this.#take(RequestType.UNTRANSLATED, requesterId, pasid, hi, lo, access);
    if (pasid === NO_PASID && inInterruptRange(hi, lo)) {
      // A write is an interrupt request, which is not translated (VT-d 3.14).
      if ((access & Access.READ_WRITE) === Access.WRITE) return this.#identity(out);
      return this.#refuse(state.ttm === Ttm.SCALABLE ? Fault.SGN_8 : Fault.LGN_4, false, false);
    }
    const reason = this.#byMode(out);
    if (reason === 0 && this.#trace.vtd_dmar_translate.on) this.#translated(out);
    return reason;
  }

  /**
   * Tries a translation request or a translated request (`type`, a RequestType) while translation is enabled. As `translate`, but what it
   * refuses is recorded only by `recordRefusal`. For a translated request `out` means nothing.
   */
  attempt(
    type: number,
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: Translation,
  ): number {
    this.#take(type, requesterId, pasid, hi, lo, access);
    const reason = this.#byMode(out);
    const { vtd_dmar_translate: translated } = this.#trace;
    if (reason === 0 && type === RequestType.TRANSLATION && translated.on) this.#translated(out);
    return reason;
  }

  /** Records that the last attempt was refused for `reason`, unless FPD suppresses it. `access` is that of the whole request. */
  recordRefusal(reason: number, access: number): void {
    this.#access = access;
    this.#record(reason, this.#refusedFpd, this.#refusedWalking);
  }

  #take(type: number, requesterId: number, pasid: number, hi: number, lo: number, access: number): void {
    this.#type = type;
    this.#requesterId = requesterId;
    this.#pasid = pasid;
    this.#hi = hi;
    this.#lo = lo;
    this.#access = access;
    this.#lookupPasid = NO_PASID;
  }

  #byMode(out: Translation): number {
    const { ttm } = this.#state;
    if (ttm === Ttm.SCALABLE && this.#caps.scalable) return this.#scalable(out);
    if (ttm === Ttm.LEGACY) return this.#legacy(out);
    return this.#refuse(ttm === Ttm.ABORT && this.#caps.abortMode ? Fault.RTA_4 : Fault.RTA_1, false, false);
  }

  #legacy(out: Translation): number {
    if (this.#pasid !== NO_PASID) return this.#refuse(Fault.RTA_2, false, false);
    if (this.#byRequester !== undefined && this.#cached(-1, out)) return 0;
    const requesterId = this.#requesterId;
    const contexts = this.#lookup.contexts;
    const known = contexts.has(requesterId);
    if (!known) {
      const reason = this.#lookup.fillLegacyContext(requesterId);
      if (reason !== 0) return this.#refuse(reason, this.#lookup.fpd, false);
    }
    this.#usesContext(known);
    const table = contexts.table(requesterId);
    const at = contexts.at(requesterId);
    const fpd = (table[at + Ctx.FLAGS]! & CtxFlag.FPD) !== 0;
    if (this.#type !== RequestType.UNTRANSLATED) {
      const result = this.#ats(table[at + Ctx.FLAGS]!, false);
      if (result !== UNDECIDED) return result;
    }
    if (table[at + Ctx.FLAGS]! & CtxFlag.PASS_THROUGH) {
      return this.#passThrough(this.#caps.mgaw, Fault.LGN_1, fpd, out);
    }
    const asid = table[at + Ctx.ASID]!;
    if (this.#cached(asid, out)) return 0;
    const reason = this.#second.walk(
      table[at + Ctx.TABLE_HI]!,
      table[at + Ctx.TABLE_LO]!,
      table[at + Ctx.EXTENT]!,
      this.#hi,
      this.#lo,
      this.#access,
      this.#legacyReasons,
      AdUpdate.OFF,
      true,
      table[at + Ctx.SECOND_SPACE]!,
    );
    if (reason !== 0) return this.#refuse(reason, fpd, true);
    this.#lookup.renewLegacy(table, at);
    return this.#fromSecond(table[at + Ctx.ASID]!, table[at + Ctx.DOMAIN]!, out);
  }

  #scalable(out: Translation): number {
    const requesterId = this.#requesterId;
    const lookup = this.#lookup;
    const contexts = lookup.contexts;
    const known = contexts.has(requesterId);
    if (!known) {
      const reason = lookup.fillScalableContext(requesterId);
      if (reason !== 0) return this.#refuse(reason, lookup.fpd, false);
    }
    const kept = known || !this.#behaviour.contextNeedsPasid;
    if (kept) this.#usesContext(known);
    const table = contexts.table(requesterId);
    const at = contexts.at(requesterId);
    const flags = table[at + Ctx.FLAGS]!;
    if (this.#type !== RequestType.UNTRANSLATED) {
      const result = this.#ats(flags, true);
      if (result !== UNDECIDED) return result;
    }
    let pasid = this.#pasid;
    let privileged = (this.#access & Access.PRIVILEGED) !== 0;
    if (pasid === NO_PASID) {
      pasid = table[at + Ctx.RID_PASID]!;
      privileged = (flags & CtxFlag.RID_PRIV) !== 0;
      // A request without PASID carries neither of these attributes.
      this.#access &= Access.READ_WRITE;
      if (privileged) this.#access |= Access.PRIVILEGED;
    } else if (this.#behaviour.pasidLimits) {
      const fpd = (flags & CtxFlag.FPD) !== 0;
      if ((flags & CtxFlag.PASIDE) === 0) return this.#refuse(Fault.SCT_6, fpd, false);
      if (pasid >= table[at + Ctx.EXTENT]!) return this.#refuse(Fault.SCT_7, fpd, false);
    }
    if (!this.#behaviour.pasidsCached) lookup.pasids.invalidateAll();
    let record = lookup.pasids.find(requesterId, pasid);
    if (record < 0) {
      record = lookup.fillPasid(requesterId, pasid, table, at, known && this.#behaviour.pasidEntriesTrusted);
      if (record < 0) {
        if (lookup.hiding && this.#cachedFor(pasid, out)) return 0;
        const fpd = this.#behaviour.lookupFpd ? lookup.fpd : lookup.hiding || (flags & CtxFlag.FPD) !== 0;
        if (!kept) contexts.invalidateDevice(requesterId, 0, 0, true);
        return this.#refuse(-record, fpd, false);
      }
    }
    if (!kept) this.#usesContext(false);
    this.#lookupPasid = pasid;
    return this.#byEntry(lookup.pasids.words, record, privileged, out);
  }

  /** What the context entry says to a request with ATS (vtd.md 4.3 steps 8, 9; 4.4 steps 8, 9; 4.7). */
  #ats(flags: number, scalable: boolean): number {
    const fpd = (flags & CtxFlag.FPD) !== 0;
    if ((flags & CtxFlag.DTE) === 0) return this.#refuse(scalable ? Fault.SCT_5 : Fault.LCT_5, fpd, false);
    const inInterrupts = inInterruptRange(this.#hi, this.#lo);
    const interrupts = scalable ? Fault.SGN_8 : Fault.LGN_4;
    const withPasid = this.#pasid !== NO_PASID;
    if (this.#type === RequestType.TRANSLATION) {
      return inInterrupts && !withPasid ? this.#refuse(interrupts, fpd, false) : UNDECIDED;
    }
    if (withPasid && (flags & CtxFlag.PASIDE) === 0) return this.#refuse(Fault.SCT_6, fpd, false);
    if (isBeyond(this.#hi, this.#caps.haw)) {
      const { legacy, scalable: inScalable } = TRANSLATED_BEYOND_WIDTH;
      return this.#refuse(scalable ? inScalable : legacy, fpd, false);
    }
    return inInterrupts ? this.#refuse(interrupts, fpd, false) : 0;
  }

  /** Translates as the PASID record `pe[record ..]` says. */
  #byEntry(pe: Int32Array, record: number, privileged: boolean, out: Translation): number {
    const flags = pe[record + Pe.FLAGS]!;
    const fpd = (flags & PeFlag.FPD) !== 0;
    if (privileged && (flags & PeFlag.SRE) === 0 && !this.#behaviour.everyRequestIsUser) {
      return this.#refuse(Fault.SPT_6, fpd, true);
    }
    const pgtt = pe[record + Pe.PGTT]!;
    if (pgtt === Pgtt.PASS_THROUGH) {
      if (inInterruptRange(this.#hi, this.#lo)) return this.#refuse(Fault.SGN_8, fpd, true);
      return this.#passThrough(this.#caps.haw, Fault.SGN_4, fpd, out);
    }
    if (this.#cached(pe[record + Pe.ASID]!, out)) return 0;
    const reason =
      pgtt === Pgtt.SECOND_STAGE
        ? this.#walkSecond(pe, record, flags)
        : this.#first.walk(pe, record, this.#hi, this.#lo, this.#access);
    if (reason !== 0) return this.#refuse(reason, fpd, true);
    this.#lookup.renewPasid(record);
    const asid = pe[record + Pe.ASID]!;
    const domain = pe[record + Pe.DOMAIN]!;
    if (pgtt === Pgtt.SECOND_STAGE) return this.#fromSecond(asid, domain, out);
    const first = this.#first;
    return this.#answer(asid, domain, TlbKind.FIRST_STAGE, first.hi, first.lo, first.shift, first.access, out);
  }

  #walkSecond(pe: Int32Array, record: number, flags: number): number {
    const snooped = flags & PeFlag.PWSNP ? AdUpdate.ON : AdUpdate.UNSNOOPED;
    return this.#second.walk(
      pe[record + Pe.SS_HI]!,
      pe[record + Pe.SS_LO]!,
      pe[record + Pe.SS_LEVELS]!,
      this.#hi,
      this.#lo,
      this.#access,
      this.#behaviour.scalableSecondStage,
      flags & PeFlag.SSADE ? snooped : AdUpdate.OFF,
      true,
      pe[record + Pe.SECOND_SPACE]!,
    );
  }

  #fromSecond(asid: number, domain: number, out: Translation): number {
    const second = this.#second;
    let access = second.access | Mark.USER | (second.access & Access.READ ? Access.EXECUTE : 0);
    if (second.access & Access.WRITE) access |= Mark.PRIVILEGED_WRITE;
    return this.#answer(asid, domain, TlbKind.SECOND_STAGE, second.hi, second.lo, second.shift, access, out);
  }

  /** Answers from the IOTLB, if what it has permits the request. */
  #cached(asid: number, out: Translation): boolean {
    const iotlb = this.#byRequester ?? this.#iotlb;
    const slot =
      this.#byRequester === undefined
        ? this.#iotlb.lookup(asid, this.#hi, this.#lo)
        : this.#byRequester.lookup(this.#requesterId, this.#lookupPasid, this.#hi, this.#lo);
    if (slot < 0) return false;
    const marks = iotlb.access(slot);
    const needed = this.#needed();
    if ((marks & needed) !== needed && !this.#behaviour.hitsIgnorePermission) return false;
    out.hi = iotlb.hi(slot);
    out.lo = iotlb.lo(slot);
    out.shift = iotlb.shift(slot);
    out.access = this.#granted(marks);
    const { vtd_iotlb_page_hit: hit } = this.#trace;
    if (hit.on) hit.emit(this.#requesterId, this.#lookupPasid, hex(this.#hi, this.#lo), hex(out.hi, out.lo));
    this.#leaveOutInterrupts(out);
    return true;
  }

  /** The same for a request without a PASID entry to look at. */
  #cachedFor(pasid: number, out: Translation): boolean {
    this.#lookupPasid = pasid;
    if (this.#cached(-1, out)) return true;
    this.#lookupPasid = NO_PASID;
    return false;
  }

  /** Caches what a walk found and answers with it. `kind` is a TlbKind; nested translations count as first-stage ones there. */
  #answer(
    asid: number,
    domain: number,
    kind: number,
    hi: number,
    lo: number,
    shift: number,
    marks: number,
    out: Translation,
  ): number {
    let outHi = hi;
    let outLo = lo;
    let outShift = shift;
    if (shift > PAGE_SHIFT && overlapsInterruptRange(hi, lo, shift)) {
      // Cached whole, it would answer for its part in the interrupt range too.
      outHi |= this.#hi & ~baseMaskHi(shift);
      outLo |= this.#lo & ~baseMaskLo(shift) & baseMaskLo(PAGE_SHIFT);
      outShift = PAGE_SHIFT;
    }
    const { vtd_iotlb_page_update: update } = this.#trace;
    if (update.on) {
      update.emit(this.#requesterId, this.#lookupPasid, hex(this.#hi, this.#lo), hex(outHi, outLo), domain);
    }
    if (this.#byRequester === undefined) {
      this.#iotlb.insert(asid, this.#hi, this.#lo, outShift, outHi, outLo, marks);
    } else {
      this.#byRequester.insert(
        this.#requesterId,
        this.#lookupPasid,
        domain,
        kind,
        this.#hi,
        this.#lo,
        outShift,
        outHi,
        outLo,
        marks,
      );
    }
    out.hi = outHi >>> 0;
    out.lo = outLo >>> 0;
    out.shift = outShift;
    out.access = this.#granted(marks);
    this.#leaveOutInterrupts(out);
    return 0;
  }

  /**
   * A request without PASID is not translated in the interrupt range, so that the answer to it must not hold there: of a large page
   * around it, it is the page of the request only.
   */
  #leaveOutInterrupts(out: Translation): void {
    const { shift } = out;
    if (shift === PAGE_SHIFT || this.#pasid !== NO_PASID || this.#behaviour.answersSpanInterrupts) return;
    if (!overlapsInterruptRange(this.#hi, this.#lo, shift)) return;
    out.hi = (out.hi | (this.#hi & ~baseMaskHi(shift))) >>> 0;
    out.lo = (out.lo | (this.#lo & ~baseMaskLo(shift) & baseMaskLo(PAGE_SHIFT))) >>> 0;
    out.shift = PAGE_SHIFT;
  }

  /** Marks that a cached translation must have for this request. */
  #needed(): number {
    const access = this.#access;
    const execute = access & Access.EXECUTE;
    if (access & Access.PRIVILEGED) {
      const write = access & Access.WRITE ? Mark.PRIVILEGED_WRITE : 0;
      return execute | write | (access & Access.READ || write === 0 ? Access.READ : 0);
    }
    const kind = access & Access.READ_WRITE;
    return execute | Mark.USER | (kind === 0 ? Access.READ : kind);
  }

  /** What the answer grants to this request's kind of requester. */
  #granted(marks: number): number {
    const privilegedWrite = marks & Mark.PRIVILEGED_WRITE ? Access.WRITE : 0;
    const granted =
      this.#access & Access.PRIVILEGED
        ? (marks & (Access.READ | Access.EXECUTE)) | privilegedWrite
        : marks & (Access.READ_WRITE | Access.EXECUTE);
    const reads = (this.#access & Access.WRITE) === 0;
    return reads && this.#behaviour.readHidesWrite ? granted & ~Access.WRITE : granted;
  }

  /** A request that passes through: `beyond` is the reason for one whose address does not fit `width` bits. */
  #passThrough(width: number, beyond: number, fpd: boolean, out: Translation): number {
    const passing = this.#passing;
    if (passing === undefined && isBeyond(this.#hi, width)) return this.#refuse(beyond, fpd, true);
    const { vtd_translate_pt: passed } = this.#trace;
    if (passed.on) passed.emit(this.#requesterId, hex(this.#hi, this.#lo));
    if (this.#pasid === NO_PASID) passing?.look(this.#requesterId);
    return this.#identity(out);
  }

  /** The page of the request, as it is. A device is not told that it may execute there (vtd.md 4.9). */
  #identity(out: Translation): number {
    out.hi = this.#hi >>> 0;
    out.lo = (this.#lo & ~0xfff) >>> 0;
    out.shift = PAGE_SHIFT;
    out.access = this.#type === RequestType.TRANSLATION ? Access.READ_WRITE : ALL_ACCESS;
    return 0;
  }

  /** A context entry came from its cache (`known`), or into it. */
  #usesContext(known: boolean): void {
    const used = known ? this.#trace.vtd_iotlb_cc_hit : this.#trace.vtd_iotlb_cc_update;
    if (used.on) used.emit(this.#requesterId >>> 8, this.#requesterId & 0xff);
  }

  #translated(out: Translation): void {
    const [bus, devfn] = [this.#requesterId >>> 8, this.#requesterId & 0xff];
    const iova = hex(this.#hi & baseMaskHi(out.shift), this.#lo & baseMaskLo(out.shift));
    const mask = hex(~baseMaskHi(out.shift), ~baseMaskLo(out.shift));
    this.#trace.vtd_dmar_translate.emit(bus, devfn >>> 3, devfn & 7, iova, hex(out.hi, out.lo), mask);
  }

  #refuse(reason: number, fpd: boolean, walking: boolean): number {
    if (this.#type === RequestType.UNTRANSLATED) {
      this.#record(reason, fpd, walking);
    } else {
      this.#refusedFpd = fpd;
      this.#refusedWalking = walking;
    }
    return reason;
  }

  #record(reason: number, fpd: boolean, walking: boolean): void {
    this.#faults.report(
      reason,
      fpd,
      this.#requesterId,
      this.#pasid,
      walking,
      this.#lookupPasid,
      this.#hi,
      this.#lo,
      this.#access,
      this.#type,
    );
  }
}
