/**
 * A q35 machine with a vIOMMU that serves device TLBs and page requests, a dma-engine that has both, and a guest that uses them: virtual
 * addresses with a PASID and without one, judged by what is in guest memory.
 */
import assert from 'node:assert/strict';
import { Access } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import type { Machine } from '@remora/machine';
import { type EngineResult, extendedCapability, Guest, GuestAts, type GuestEngine, q35Ats } from '@remora/machines';
import { ExtendedCapability } from '@remora/pci';
import type { DmaEngineConfig } from '@hw/dma-engine/config';
import { PasidIotlbGranularity } from '@hw/intel-iommu';
import {
  firstStagePasid,
  type PageRequestHandler,
  type PageRequestQueue,
  type PageTable,
  type VtdPageRequest,
} from '@hw/intel-iommu/driver';

export const PAGE = 4096;
export const BDF = '00:05.0';
export const REQUESTER = 0x28;
export const PASID = 7;
/** Domain ids of requests without PASID, and with one. */
export const PLAIN_DOMAIN = 1;
export const SHARED_DOMAIN = 2;
/** Virtual frame of what is mapped. */
export const AT = 0x1_2345_6000;
/** How a space is named: with its PASID, or without one. */
export const SPACES = [PASID, undefined] as const;
export type Space = (typeof SPACES)[number];

export interface AtsGuestOptions {
  /** Further options of the dma-engine, which has `ats=on,pri=on`. */
  readonly engine?: Partial<DmaEngineConfig>;
  /** Whether the guest enables ATS; default true. */
  readonly ats?: boolean;
  /** Page requests that the engine may have outstanding; 0 leaves the interface off. Default 32. */
  readonly allocation?: number;
  /** The page request queue's order. */
  readonly order?: number;
  /** Whether the guest answers page requests when it handles them; default: it withholds its answers. */
  readonly handler?: PageRequestHandler;
}

export class AtsGuest implements Disposable {
  readonly vm: Machine;
  readonly guest: Guest;
  readonly engine: GuestEngine;
  readonly ats: GuestAts;
  readonly requests: PageRequestQueue;
  /** Requests whose answer is withheld, oldest first. */
  readonly withheld: VtdPageRequest[] = [];
  readonly #shared: PageTable;
  readonly #plain: PageTable;

  constructor(options: AtsGuestOptions = {}) {
    const { ats = true, allocation = 32, order, handler } = options;
    this.vm = q35Ats({ engine: options.engine ?? {} });
    this.vm.start();
    this.guest = new Guest(this.vm);
    this.#shared = this.guest.firstStage();
    this.#plain = this.guest.firstStage();
    const { iommu } = this.guest;
    let requests: PageRequestQueue | undefined;
    iommu.start(undefined, () => {
      requests = iommu.enablePageRequests({
        handler: handler ?? (request => void this.withheld.push(request)),
        ...(order === undefined ? {} : { order }),
      });
      assert.equal(iommu.attach(REQUESTER, { dte: 1, pre: 1 }), 0);
      assert.equal(iommu.addPasid(REQUESTER, 0, firstStagePasid(this.#plain, PLAIN_DOMAIN)), 0);
      assert.equal(iommu.addPasid(REQUESTER, PASID, firstStagePasid(this.#shared, SHARED_DOMAIN)), 0);
    });
    this.requests = requests!;
    this.engine = this.guest.engine(BDF);
    this.ats = new GuestAts(this.vm, BDF);
    this.setUpFunction(ats, allocation);
  }

  /** As Linux does at probe: PASID, ATS, page requests. */
  setUpFunction(ats = true, allocation = 32): void {
    this.ats.enablePasid();
    if (ats) this.ats.enable();
    const offers = extendedCapability(this.vm, BDF, ExtendedCapability.PRI) !== undefined;
    if (offers && allocation > 0) this.ats.enablePageRequests(allocation);
  }

  table(space: Space): PageTable {
    return space === undefined ? this.#plain : this.#shared;
  }

  /** Puts a page with `frame` behind virtual frame `at`, in place of what is there, and flushes nothing. */
  map(space: Space, at: number, frame: number, access: number = Access.READ_WRITE): void {
    const table = this.table(space);
    assert.equal(table.unmap(at, 1), 0);
    assert.equal(table.map(at, frame, 1, access), 0);
  }

  unmap(space: Space, at: number): void {
    assert.equal(this.table(space).unmap(at, 1), 0);
  }

  /** A new page of guest memory behind virtual frame `at`. */
  page(space: Space, at: number): number {
    const frame = this.guest.page();
    this.map(space, at, frame);
    return frame;
  }

  /** Flushes the unit's IOTLB, of everything in the space. */
  flushIotlb(space: Space): void {
    const domain = space === undefined ? PLAIN_DOMAIN : SHARED_DOMAIN;
    assert.equal(this.guest.iommu.pasidIotlbInvalidate(PasidIotlbGranularity.PASID, domain, space ?? 0), 0);
  }

  /** Invalidates `2 ** shift` bytes around virtual frame `at` in the engine's device TLB: type 3, or 8. */
  flushDeviceTlb(space: Space, at: number, shift = 12): number {
    const hi = Math.floor(at / 0x10_0000);
    const lo = (at % 0x10_0000) * PAGE;
    const { iommu } = this.guest;
    return space === undefined
      ? iommu.deviceTlbInvalidate(REQUESTER, hi, lo, shift)
      : iommu.pasidDeviceTlbInvalidate(REQUESTER, space, hi, lo, shift);
  }

  /** The engine writes four times `value` at virtual frame `at`. */
  fill(space: Space, at: number, value: number, length = 4): EngineResult {
    const pasid = space === undefined ? {} : { pasid: space };
    return this.engine.fill({ ...pasid, to: at * PAGE, length, pattern: value * 0x0101_0101 });
  }

  copy(space: Space, from: number, to: number, length: number): EngineResult {
    const pasid = space === undefined ? {} : { pasid: space };
    return this.engine.copy({ ...pasid, from: from * PAGE, to: to * PAGE, length });
  }

  /** First byte of a guest frame. */
  byte(frame: number): number {
    return this.guest.read(frame, 1)[0]!;
  }

  /** Answers the oldest withheld request. */
  answer(code: number = PageResponse.SUCCESS): void {
    const request = this.withheld.shift();
    assert.ok(request !== undefined, 'no request waits');
    assert.equal(this.requests.respond(request, code), 0);
  }

  [Symbol.dispose](): void {
    this.vm[Symbol.dispose]();
  }
}
