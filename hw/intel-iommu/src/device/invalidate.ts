/** What invalidations remove from the unit's own caches (vtd.md 5.11). Descriptors and register commands both end here. */
import { hex } from '@remora/bits';
import type { Iotlb, PagingStructureCache } from '@remora/iommu';
import { Granularity, PasidCacheGranularity, PasidIotlbGranularity } from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { ContextCache } from './context-cache.js';
import type { VtdPropagation } from './environment.js';
import type { InterruptEntryCache } from './interrupt-entry-cache.js';
import { TlbKind } from './lookup.js';
import type { PassingRequesters } from './passing-requesters.js';
import type { PasidEntryCache } from './pasid-entry-cache.js';
import type { RequesterIotlb } from './requester-iotlb.js';
import type { VtdTrace } from './trace-events.js';

const PAGE_SHIFT = 12;
const WHOLE_SPACE = 64;

/** log2 of the bytes of 2^mask pages. */
function rangeShift(mask: number): number {
  return Math.min(PAGE_SHIFT + mask, WHOLE_SPACE);
}

export class Invalidator {
  readonly #behaviour: Behaviour;
  readonly #contexts: ContextCache;
  readonly #pasids: PasidEntryCache;
  readonly #iotlb: Iotlb;
  readonly #byRequester: RequesterIotlb | undefined;
  readonly #structures: PagingStructureCache | undefined;
  readonly #interruptEntries: InterruptEntryCache;
  readonly #propagation: VtdPropagation | undefined;
  readonly #trace: VtdTrace;
  readonly #passing: PassingRequesters | undefined;

  constructor(
    behaviour: Behaviour,
    contexts: ContextCache,
    pasids: PasidEntryCache,
    iotlb: Iotlb,
    structures: PagingStructureCache | undefined,
    interruptEntries: InterruptEntryCache,
    propagation: VtdPropagation | undefined,
    byRequester: RequesterIotlb | undefined,
    passing: PassingRequesters | undefined,
    trace: VtdTrace,
  ) {
    this.#behaviour = behaviour;
    this.#contexts = contexts;
    this.#pasids = pasids;
    this.#iotlb = iotlb;
    this.#structures = structures;
    this.#interruptEntries = interruptEntries;
    this.#propagation = propagation;
    this.#trace = trace;
    this.#byRequester = byRequester;
    this.#passing = passing;
  }

  /** All caches of DMA remapping: SRTP with CAP.ESRTPS, and reset. */
  everything(): void {
    const { vtd_context_cache_reset: reset } = this.#trace;
    if (reset.on) reset.emit();
    this.#contexts.invalidateAll();
    this.#pasids.invalidateAll();
    this.#iotlb.invalidateAll();
    this.#byRequester?.invalidateAll();
    this.#structures?.invalidateAll();
    this.#passing?.lookAtAll();
  }

  /** `granularity` is a Granularity. Returns what propagation returned. */
  contextCache(granularity: number, domain: number, sourceId: number, functionMask: number, scalable: boolean): number {
    this.#traceContexts(granularity, domain, sourceId, functionMask, scalable);
    // A scalable-mode context entry has no domain, so that a domain is all of them.
    if (granularity === Granularity.DEVICE) {
      const anyDomain = scalable || !this.#behaviour.contextDomainCompared;
      this.#contexts.invalidateDevice(sourceId, functionMask, domain, anyDomain);
      this.#passing?.lookAtDevices(sourceId, functionMask);
    } else if (granularity === Granularity.DOMAIN && !scalable && !this.#behaviour.contextDomainIsGlobal) {
      this.#contexts.invalidateDomain(domain);
    } else {
      this.#contexts.invalidateAll();
    }
    if (granularity !== Granularity.DEVICE) this.#passing?.lookAtAll();
    return this.#propagation?.contextCacheInvalidate?.(granularity, domain, sourceId, functionMask) ?? 0;
  }

  /** `granularity` is a PasidCacheGranularity. */
  pasidCache(granularity: number, domain: number, pasid: number): number {
    if (granularity === PasidCacheGranularity.GLOBAL) this.#pasids.invalidateAll();
    else if (granularity === PasidCacheGranularity.DOMAIN) this.#pasids.invalidateDomain(domain);
    else this.#pasids.invalidatePasid(domain, pasid);
    return this.#propagation?.pasidCacheInvalidate?.(granularity, domain, pasid) ?? 0;
  }

  /** `granularity` is a Granularity; the range is 2^mask pages around (hi, lo); `leaf` (IH) if only leaf entries changed. */
  iotlb(granularity: number, domain: number, hi: number, lo: number, mask: number, leaf: boolean): number {
    const iotlb = this.#iotlb;
    const structures = this.#structures;
    this.#traceIotlb(granularity, domain, hi, lo, mask);
    if (granularity === Granularity.GLOBAL) {
      iotlb.invalidateAll();
      this.#byRequester?.invalidateAll();
      structures?.invalidateAll();
    } else if (granularity === Granularity.DOMAIN) {
      iotlb.invalidateDomain(domain);
      this.#byRequester?.invalidateDomain(domain);
      structures?.invalidateDomain(domain);
    } else if (this.#byRequester !== undefined) {
      this.#byRequester.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, rangeShift(mask));
    } else {
      structures?.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, rangeShift(mask), leaf);
      if (!leaf) {
        structures?.invalidateDomain(domain, TlbKind.FIRST_STAGE);
        structures?.invalidateDomain(domain, TlbKind.NESTED);
      }
      iotlb.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, rangeShift(mask));
      // The address is a second-stage input, which says nothing about these.
      iotlb.invalidateDomain(domain, TlbKind.FIRST_STAGE);
      iotlb.invalidateDomain(domain, TlbKind.NESTED);
    }
    return this.#propagation?.iotlbInvalidate?.(granularity, domain, hi, lo, mask, leaf) ?? 0;
  }

  /** `granularity` is a PasidIotlbGranularity; the range is 2^mask pages around (hi, lo); `leaf` (IH) if only leaf entries changed. */
  pasidIotlb(
    granularity: number,
    domain: number,
    pasid: number,
    hi: number,
    lo: number,
    mask: number,
    leaf: boolean,
  ): number {
    this.#tracePasidIotlb(granularity, domain, pasid, hi, lo, mask);
    this.#pasidTranslations(granularity, domain, pasid, hi, lo, mask);
    this.#pasidStructures(granularity, domain, pasid, hi, lo, mask, leaf);
    return this.#propagation?.pasidIotlbInvalidate?.(granularity, domain, pasid, hi, lo, mask, leaf) ?? 0;
  }

  #pasidTranslations(granularity: number, domain: number, pasid: number, hi: number, lo: number, mask: number): void {
    const iotlb = this.#iotlb;
    const byRequester = this.#byRequester;
    if (byRequester !== undefined) {
      if (granularity === PasidIotlbGranularity.PASID) byRequester.invalidatePasid(domain, pasid);
      else byRequester.invalidatePasidPages(domain, pasid, TlbKind.FIRST_STAGE, hi, lo, rangeShift(mask));
      return;
    }
    const first = iotlb.asid(domain, pasid, TlbKind.FIRST_STAGE);
    const nested = iotlb.asid(domain, pasid, TlbKind.NESTED);
    if (granularity === PasidIotlbGranularity.PASID) {
      iotlb.invalidateAsid(first);
      iotlb.invalidateAsid(nested);
    } else {
      iotlb.invalidatePages(first, hi, lo, rangeShift(mask));
      iotlb.invalidatePages(nested, hi, lo, rangeShift(mask));
    }
  }

  /** A page request: the page is forgotten, whichever stage translates it. Nobody beyond the unit is told. */
  page(domain: number, pasid: number, hi: number, lo: number): void {
    this.#pasidTranslations(PasidIotlbGranularity.PAGE, domain, pasid, hi, lo, 0);
    this.#iotlb.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, PAGE_SHIFT);
    this.#pasidStructures(PasidIotlbGranularity.PAGE, domain, pasid, hi, lo, 0, false);
    this.#structures?.invalidateDomainPages(domain, TlbKind.SECOND_STAGE, hi, lo, PAGE_SHIFT, false);
  }

  #pasidStructures(
    granularity: number,
    domain: number,
    pasid: number,
    hi: number,
    lo: number,
    mask: number,
    leaf: boolean,
  ): void {
    const structures = this.#structures;
    const pages = granularity !== PasidIotlbGranularity.PASID;
    // First-stage dead ends are never cached: leaves alone concern nothing here.
    if (structures === undefined || (pages && leaf)) return;
    const first = structures.space(domain, pasid, TlbKind.FIRST_STAGE);
    const nested = structures.space(domain, pasid, TlbKind.NESTED);
    if (pages) {
      structures.invalidatePages(first, hi, lo, rangeShift(mask), false);
      structures.invalidatePages(nested, hi, lo, rangeShift(mask), false);
    } else {
      structures.invalidateSpace(first);
      structures.invalidateSpace(nested);
    }
  }

  #traceContexts(granularity: number, domain: number, sourceId: number, mask: number, scalable: boolean): void {
    const trace = this.#trace;
    if (granularity === Granularity.DEVICE) {
      if (trace.vtd_inv_desc_cc_devices.on) trace.vtd_inv_desc_cc_devices.emit(sourceId, mask);
      return;
    }
    const named = granularity === Granularity.DOMAIN;
    if (named && trace.vtd_inv_desc_cc_domain.on) trace.vtd_inv_desc_cc_domain.emit(domain);
    if ((!named || scalable) && trace.vtd_inv_desc_cc_global.on) trace.vtd_inv_desc_cc_global.emit();
  }

  #traceIotlb(granularity: number, domain: number, hi: number, lo: number, mask: number): void {
    const trace = this.#trace;
    if (granularity === Granularity.GLOBAL) {
      if (trace.vtd_inv_desc_iotlb_global.on) trace.vtd_inv_desc_iotlb_global.emit();
    } else if (granularity === Granularity.DOMAIN) {
      if (trace.vtd_inv_desc_iotlb_domain.on) trace.vtd_inv_desc_iotlb_domain.emit(domain);
    } else if (trace.vtd_inv_desc_iotlb_pages.on) trace.vtd_inv_desc_iotlb_pages.emit(domain, hex(hi, lo), mask);
  }

  #tracePasidIotlb(granularity: number, domain: number, pasid: number, hi: number, lo: number, mask: number): void {
    const { vtd_inv_desc_iotlb_pasid: whole, vtd_inv_desc_iotlb_pasid_pages: pages } = this.#trace;
    if (granularity === PasidIotlbGranularity.PASID) {
      if (whole.on) whole.emit(domain, pasid);
    } else if (pages.on) pages.emit(domain, hex(hi, lo), mask, pasid);
  }

  /** All IRTEs. */
  interruptEntries(): void {
    this.#interruptEntries.invalidateAll();
  }

  /** The IRTEs of the 2^mask indices around `index`. */
  interruptEntryRange(index: number, mask: number): void {
    this.#interruptEntries.invalidate(index, mask);
  }

  /** The unit keeps no device TLBs itself. `shift` is log2 of the range in bytes. */
  deviceTlb(requesterId: number, pasid: number, hi: number, lo: number, shift: number, global: boolean): void {
    this.#propagation?.deviceTlbInvalidate?.(requesterId, pasid, hi, lo, shift, global);
  }
}
