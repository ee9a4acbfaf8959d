/** Page requests: which the unit takes, and what it answers itself (VT-d 7.4, vtd.md 7.1, 7.3). */
import { Access, NO_PASID } from '@remora/core';
import { PageResponse, type PageRequest } from '@remora/iommu';
import { Fault, RequestType, Ttm } from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import { Ctx, CtxFlag } from './context-cache.js';
import type { VtdEnvironment } from './environment.js';
import type { FaultRecording } from './fault-recording.js';
import type { Invalidator } from './invalidate.js';
import type { Lookup } from './lookup.js';
import { Queued, type PageRequestQueue } from './page-request-queue.js';
import { sendPageResponse } from './page-responses.js';
import { Pe } from './pasid-entry-cache.js';
import type { UnitState } from './state.js';

/** What the last request of a group is told while the queue has overflowed: try again. UNCONFIRMED. */
export const OVERFLOW_RESPONSE = PageResponse.SUCCESS;

export class PageRequests {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #state: UnitState;
  readonly #lookup: Lookup;
  readonly #invalidator: Invalidator;
  readonly #queue: PageRequestQueue;
  readonly #faults: FaultRecording;
  readonly #environment: VtdEnvironment;
  #fpd = false;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    state: UnitState,
    lookup: Lookup,
    invalidator: Invalidator,
    queue: PageRequestQueue,
    faults: FaultRecording,
    environment: VtdEnvironment,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#state = state;
    this.#lookup = lookup;
    this.#invalidator = invalidator;
    this.#queue = queue;
    this.#faults = faults;
    this.#environment = environment;
  }

  /**
   * Takes a request: it is in the queue, has been answered, or is dropped as one that is not the last of its group. False if it is refused:
   * its group then has the response INVALID_REQUEST (UNCONFIRMED). Nothing is recorded while page requests, or translation, are off.
   */
  take(request: PageRequest): boolean {
    if (!this.#caps.pageRequests || !this.#state.translationEnabled) return false;
    const { requesterId, pasid, hi, lo } = request;
    // Without a PASID a request has neither of the other attributes.
    const access = pasid === NO_PASID ? request.access & Access.READ_WRITE : request.access;
    const reason = this.#refusal(requesterId, pasid);
    if (reason !== 0) {
      const type = RequestType.PAGE_REQUEST;
      this.#faults.report(reason, this.#fpd, requesterId, pasid, false, NO_PASID, hi | 0, lo | 0, access, type);
      return false;
    }
    // Executing is reading (vtd.md 7.2).
    if (access & Access.EXECUTE && !(access & Access.READ)) return false;
    this.#forget(requesterId, pasid, hi | 0, lo | 0);
    const queued = this.#queue.put(request, access);
    this.#log(request, queued);
    if (queued === Queued.OVERFLOW) this.#answer(request);
    return queued !== Queued.NO_MEMORY;
  }

  /** Why the tables refuse a request; 0 if they do not (vtd.md 4.2, 4.4 steps 1 to 11). */
  #refusal(requesterId: number, pasid: number): number {
    this.#fpd = false;
    const { ttm } = this.#state;
    if (ttm === Ttm.LEGACY) return Fault.RTA_3;
    if (ttm !== Ttm.SCALABLE || !this.#caps.scalable) {
      return ttm === Ttm.ABORT && this.#caps.abortMode ? Fault.RTA_4 : Fault.RTA_1;
    }
    const lookup = this.#lookup;
    const contexts = lookup.contexts;
    if (!contexts.has(requesterId)) {
      const reason = lookup.fillScalableContext(requesterId);
      this.#fpd = lookup.fpd;
      if (reason !== 0) return reason;
    }
    const table = contexts.table(requesterId);
    const at = contexts.at(requesterId);
    const flags = table[at + Ctx.FLAGS]!;
    this.#fpd = (flags & CtxFlag.FPD) !== 0;
    if (pasid !== NO_PASID && this.#behaviour.pasidLimits) {
      if ((flags & CtxFlag.PASIDE) === 0) return Fault.SCT_6;
      if (pasid >= table[at + Ctx.EXTENT]!) return Fault.SCT_7;
    }
    return (flags & CtxFlag.PRE) === 0 ? Fault.SCT_8 : 0;
  }

  /** What is cached of the page goes, so that the retry sees what software will have done (vtd.md 7.3, rule 2). */
  #forget(requesterId: number, pasid: number, hi: number, lo: number): void {
    const lookup = this.#lookup;
    const table = lookup.contexts.table(requesterId);
    const at = lookup.contexts.at(requesterId);
    const inUse = pasid === NO_PASID ? table[at + Ctx.RID_PASID]! : pasid;
    let record = lookup.pasids.find(requesterId, inUse);
    if (record < 0) record = lookup.fillPasid(requesterId, inUse, table, at);
    // Where no PASID entry is present, nothing was translated.
    if (record >= 0) this.#invalidator.page(lookup.pasids.words[record + Pe.DOMAIN]!, inUse, hi, lo);
  }

  /** While the queue has overflowed: groups get an answer all the same, stop markers expect none. */
  #answer({ requesterId, pasid, access, group, last }: PageRequest): void {
    if (!last || (access & Access.READ_WRITE) === 0) return;
    sendPageResponse(this.#environment, requesterId, pasid, group, OVERFLOW_RESPONSE);
  }

  #log({ requesterId, pasid, hi, lo, access, group, last }: PageRequest, queued: Queued): void {
    const { ledger, name } = this.#environment;
    if (ledger?.on !== true) return;
    const outcome = queued === Queued.YES ? 'queued' : queued === Queued.OVERFLOW ? 'overflow' : 'no-memory';
    ledger.add(name, 'page-request', {
      requesterId,
      pasid,
      hi: hi >>> 0,
      lo: lo >>> 0,
      access,
      group,
      last,
      outcome,
    });
  }
}
