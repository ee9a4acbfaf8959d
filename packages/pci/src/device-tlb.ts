/**
 * A device TLB (PCIe 10): a function's own cache of translations, for any device that has the ATS capability. The device's accesses go
 * through channels (DeviceTlbChannel); the IOMMU's invalidations and page responses come in here.
 */
import { Access, type Inspector, NO_PASID, type StateReader, type StateWriter, type VirtualClock } from '@remora/core';
import { AtsCompletion, type AtsEndpoint, AtsStatus, Iotlb, type IotlbEntry, PageResponse } from '@remora/iommu';
import type { AtsCapability } from './ats-capability.js';
import { DelayedInvalidations } from './delayed-invalidations.js';
import type { PciFunction } from './function.js';
import { PageRequests, type PageWaiter } from './page-requests.js';

export interface DeviceTlbOptions {
  /** How many translations fit; default 64. */
  readonly entries?: number;
  /** Invalidations are done so many nanoseconds of virtual time after they arrived: until then the old translations are used. Default 0. */
  readonly invalidateLatency?: number;
  /** Needed with a latency; without it, page requests that the IOMMU itself answers are repeated at once. */
  readonly clock?: VirtualClock;
}

/** What is known of an address. */
export const Found = {
  /** `out` says where it leads. */
  TRANSLATED: 0,
  /** It may only be accessed untranslated. */
  UNTRANSLATED: 1,
  /** There is nothing, or not for such an access: the page may be requested. */
  NOTHING: 2,
  /** The IOMMU refuses to say. */
  ERROR: 3,
} as const;
export type Found = (typeof Found)[keyof typeof Found];

const DEFAULT_ENTRIES = 64;
/** Domains and kinds of the cache: requests with and without PASID are invalidated apart; privileged ones see other permissions. */
const TAGGED = 0;
const UNTAGGED = 1;
const USER = 0;
const PRIVILEGED = 1;
/** A bit of the cached access byte, beside Access. */
const UNTRANSLATED_ONLY = 0x10;
/** After so many answers that an invalidation overtook, an access fails. */
const MAX_OVERTAKEN = 8;
/** Translations in a set of the cache. */
const WAYS = 4;
const MAX_PASID = 0xf_ffff;
const WORD = { max: 0xffff_ffff };

export class DeviceTlb implements AtsEndpoint, Disposable {
  readonly clock: VirtualClock | undefined;
  readonly #fn: PciFunction;
  readonly #ats: AtsCapability;
  readonly #cache: Iotlb;
  readonly #delayed: DelayedInvalidations | undefined;
  readonly #requests: PageRequests | undefined;
  readonly #answer = new AtsCompletion();
  /** Counts what removes translations. */
  #generation = 0;
  /** Translated requests that are under way, and invalidations that wait for their end. */
  #underWay = 0;
  #drained: (() => void)[] = [];
  // The address space of the last access.
  #pasid = NO_PASID;
  #kind = -1;
  #asid = -1;

  /** Becomes the `ats` endpoint of `fn`, which has its capabilities already. @throws Error if `fn` has no ATS capability. */
  constructor(fn: PciFunction, options: DeviceTlbOptions = {}) {
    if (fn.atsCapability === undefined) throw new Error(`${fn.name} has no ATS capability`);
    this.clock = options.clock;
    this.#fn = fn;
    this.#ats = fn.atsCapability;
    this.#cache = new Iotlb(options.entries ?? DEFAULT_ENTRIES);
    const latency = options.invalidateLatency ?? 0;
    if (latency > 0) {
      this.#delayed = new DelayedInvalidations(options.clock!, latency, (pasid, global, hi, lo, shift, completed) => {
        if (this.#invalidate(pasid, global, hi, lo, shift, completed)) completed();
      });
    }
    this.#requests = fn.priCapability === undefined ? undefined : new PageRequests(fn, fn.priCapability);
    fn.ats = this;
    fn.onReset(() => this.#forget());
    fn.onMove(() => this.#forget());
    this.#ats.onWrite(() => this.#controlled());
  }

  /** Whether software lets the function use ATS; otherwise its accesses are untranslated requests. */
  get enabled(): boolean {
    return this.#ats.enabled;
  }

  /** The function's page requests, while it may make any. */
  get pageRequests(): PageRequests | undefined {
    return this.#requests?.enabled === true ? this.#requests : undefined;
  }

  /** How many page requests wait for their response. */
  get outstanding(): number {
    return this.#requests?.outstanding ?? 0;
  }

  /** For the state of those who wait; whether they may make requests does not matter. */
  get waiting(): PageRequests | undefined {
    return this.#requests;
  }

  /** `waiter` no longer wants the page that it requested. */
  abandon(waiter: PageWaiter): void {
    this.#requests?.abandon(waiter);
  }

  /**
   * Where `(hi, lo)` leads for `access` (READ, WRITE, EXECUTE; PRIVILEGED as the request is made). TRANSLATED fills `out` with what holds for
   * the page; a miss asks the IOMMU.
   */
  translate(pasid: number, access: number, hi: number, lo: number, out: AtsCompletion): Found {
    const needed = access & ~Access.PRIVILEGED;
    const asid = this.#asidOf(pasid, (access & Access.PRIVILEGED) === 0 ? USER : PRIVILEGED);
    const slot = this.#cache.lookup(asid, hi, lo);
    if (slot >= 0 && (this.#cache.access(slot) & needed) === needed) {
      if ((this.#cache.access(slot) & UNTRANSLATED_ONLY) !== 0) return Found.UNTRANSLATED;
      out.hi = this.#cache.hi(slot);
      out.lo = this.#cache.lo(slot);
      out.shift = this.#cache.shift(slot);
      return Found.TRANSLATED;
    }
    return this.#ask(pasid, asid, access, needed, hi, lo, out);
  }

  /** A translated request begins: invalidations from here on complete after its end. */
  begin(): void {
    this.#underWay++;
  }

  end(): void {
    if (--this.#underWay > 0) return;
    const drained = this.#drained;
    if (drained.length === 0) return;
    this.#drained = [];
    for (const completed of drained) completed();
  }

  invalidate(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed: () => void): boolean {
    if (this.#delayed === undefined) return this.#invalidate(pasid, global, hi, lo, shift, completed);
    this.#delayed.add(pasid, global, hi, lo, shift, completed);
    return false;
  }

  pageResponse(pasid: number, group: number, code: number): void {
    this.#requests?.respond(pasid, group, code);
  }

  /** An invalidation that is not complete is among it; the IOMMU sends it again once it has been loaded. */
  save(into: StateWriter): void {
    this.#delayed?.save(into.child('invalidations'));
    into.list('translations', [...this.#cache.entries()].sort(byPage), (each, entry) => {
      each.integer('pasid', entry.pasid).flag('privileged', entry.kind === PRIVILEGED);
      each.integer('hi', entry.hi).integer('lo', entry.lo).integer('shift', entry.shift);
      each.integer('to-hi', entry.outHi).integer('to-lo', entry.outLo).integer('access', entry.access);
    });
    this.#requests?.save(into.child('page-requests'));
  }

  load(from: StateReader): void {
    this.#forget();
    this.#delayed?.load(from.child('invalidations'));
    for (const each of from.list('translations', this.#cache.capacity * WAYS)) {
      const pasid = each.integer('pasid', { min: NO_PASID, max: MAX_PASID });
      const kind = each.flag('privileged') ? PRIVILEGED : USER;
      const asid = this.#cache.asid(domainOf(pasid), pasid, kind);
      const [hi, lo] = [each.integer('hi', WORD), each.integer('lo', WORD)];
      const shift = each.integer('shift', { min: 12, max: 64 });
      const [toHi, toLo] = [each.integer('to-hi', WORD), each.integer('to-lo', WORD)];
      this.#cache.insert(asid, hi, lo, shift, toHi, toLo, each.integer('access', { max: 0xff }));
    }
    this.#requests?.load(from.child('page-requests'));
  }

  inspect(into: Inspector): void {
    into.value('enabled', this.enabled);
    into.value('entries', [...this.#cache.entries()]);
    into.value('outstandingPageRequests', this.outstanding);
  }

  /** Ends its timers. */
  [Symbol.dispose](): void {
    this.#forget();
  }

  #ask(pasid: number, asid: number, access: number, needed: number, hi: number, lo: number, out: AtsCompletion): Found {
    const answer = this.#answer;
    for (let tries = 0; tries < MAX_OVERTAKEN; tries++) {
      const generation = this.#generation;
      if (this.#fn.dma.translationRequest(hi, lo, access, answer, pasid) !== AtsStatus.OK) return Found.ERROR;
      // An answer that an invalidation overtook may be the old one (PCIe 10.3.3).
      if (generation !== this.#generation) continue;
      const { shift } = answer;
      const granted = answer.access & (Access.READ_WRITE | Access.EXECUTE);
      // Without permissions there is no translation to keep.
      if ((granted & Access.READ_WRITE) === 0) return Found.NOTHING;
      const flags = answer.untranslatedOnly ? UNTRANSLATED_ONLY : 0;
      this.#cache.insert(asid, hi, lo, shift, answer.hi, answer.lo, granted | flags);
      if ((granted & needed) !== needed) return Found.NOTHING;
      if (answer.untranslatedOnly) return Found.UNTRANSLATED;
      out.hi = answer.hi;
      out.lo = answer.lo;
      out.shift = shift;
      return Found.TRANSLATED;
    }
    return Found.ERROR;
  }

  #invalidate(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed: () => void): boolean {
    const wide = Math.max(shift, this.#ats.smallestShift);
    this.#generation++;
    for (let kind = USER; kind <= PRIVILEGED; kind++) {
      if (global) this.#cache.invalidateDomainPages(TAGGED, kind, hi, lo, wide);
      else this.#cache.invalidatePages(this.#cache.asid(domainOf(pasid), pasid, kind), hi, lo, wide);
    }
    if (this.#underWay === 0) return true;
    this.#drained.push(completed);
    return false;
  }

  #asidOf(pasid: number, kind: number): number {
    if (pasid !== this.#pasid || kind !== this.#kind || !this.#cache.isCurrent(this.#asid)) {
      this.#asid = this.#cache.asid(domainOf(pasid), pasid, kind);
      this.#pasid = pasid;
      this.#kind = kind;
    }
    return this.#asid;
  }

  /** ATS begins without translations. If software took it away, accesses that wait for a page go on, untranslated. */
  #controlled(): void {
    this.#empty();
    if (!this.#ats.enabled) this.#requests?.drop(PageResponse.SUCCESS);
  }

  /** After a reset, or a change of place: the device itself ends what it was doing, and the IOMMU gets no completions. */
  #forget(): void {
    this.#empty();
    this.#delayed?.forget();
    this.#drained = [];
    this.#requests?.forget();
  }

  #empty(): void {
    this.#generation++;
    this.#cache.invalidateAll();
  }
}

/** In the same order whatever places they have in the cache. */
function byPage(a: IotlbEntry, b: IotlbEntry): number {
  return a.pasid - b.pasid || a.kind - b.kind || a.hi - b.hi || a.lo - b.lo || a.shift - b.shift;
}

function domainOf(pasid: number): number {
  return pasid === NO_PASID ? UNTAGGED : TAGGED;
}
