/**
 * How a guest lets the lent engine use addresses of its own choice: in legacy mode by the second stage of its context entry, for hosts that
 * follow it; in scalable mode by the first stage of a PASID, for hosts that walk it. What the engine does then is the same.
 */
import { frameHi, frameLo } from '@remora/bits';
import { Access } from '@remora/core';
import { Granularity, PasidIotlbGranularity } from '@hw/intel-iommu';
import {
  firstStagePasid,
  legacyContext,
  type PageTable,
  pasidIotlbDescriptor,
  passThroughPasid,
} from '@hw/intel-iommu/driver';
import type { Guest } from '../guest/guest.js';
import type { EngineResult, GuestEngine } from '../guest/guest-engine.js';

const PAGE = 4096;
/** Of the function at 00:03.0. */
export const REQUESTER = 0x18;
/** The guest's own domain ids: of requests without PASID, and of what is mapped. */
const PLAIN_DOMAIN = 1;
const DOMAIN = 7;

/** How an access of the engine ended: nothing that depends on where its memory is. */
export interface Outcome {
  readonly ok: boolean;
  readonly failedWrite?: boolean;
}

export function outcomeOf({ ok, failedWrite }: EngineResult): Outcome {
  return ok ? { ok } : { ok, failedWrite };
}

/** An address space for the engine. Results are 0 or a negated errno. */
export interface DeviceSpace {
  /** What commands of the engine name it by. */
  readonly command: { readonly pasid?: number };
  readonly table: PageTable;
  /** The engine may use it. */
  attach(): number;
  detach(): number;
  map(frame: number, to: number, pages?: number, access?: number): number;
  unmap(frame: number, pages?: number): number;
  /** Drops what was cached of `pages` pages, a power of two to which `frame` is aligned. */
  flush(frame: number, pages?: number): number;
}

/** One of a PASID. */
export interface SharedDeviceSpace extends DeviceSpace {
  readonly command: { readonly pasid: number };
  /** The descriptor of `flush`. */
  flushDescriptor(frame: number): Int32Array;
  /** Another table takes the place of the space's at its PASID. 0 or a negated errno. */
  replace(table: PageTable): number;
}

/** Legacy mode, a second stage. */
export function legacySpace(guest: Guest): DeviceSpace {
  const { iommu } = guest;
  const table = guest.secondStage();
  const flush = (frame: number, pages = 1): number =>
    iommu.iotlbInvalidate(Granularity.PAGE, DOMAIN, rangeOf(frame, pages));
  return {
    command: {},
    table,
    attach: () => iommu.attach(REQUESTER, legacyContext(table, DOMAIN)),
    detach: () => iommu.detach(REQUESTER, DOMAIN),
    map: (frame, to, pages = 1, access = Access.READ_WRITE) =>
      table.map(frame, to, pages, access) || flush(frame, pages),
    unmap: (frame, pages = 1) => table.unmap(frame, pages) || flush(frame, pages),
    flush,
  };
}

/** Scalable mode, a first stage at a PASID of the guest's; `domain` differs between the spaces of a guest. */
export function sharedSpace(guest: Guest, pasid: number, domain = DOMAIN): SharedDeviceSpace {
  const { iommu } = guest;
  const table = guest.firstStage();
  const flush = (frame: number, pages = 1): number =>
    iommu.pasidIotlbInvalidate(PasidIotlbGranularity.PAGE, domain, pasid, rangeOf(frame, pages));
  return {
    command: { pasid },
    table,
    attach: () => iommu.addPasid(REQUESTER, pasid, firstStagePasid(table, domain)),
    detach: () => iommu.removePasid(REQUESTER, pasid),
    map: (frame, to, pages = 1, access = Access.READ_WRITE) =>
      table.map(frame, to, pages, access) || flush(frame, pages),
    unmap: (frame, pages = 1) => table.unmap(frame, pages) || flush(frame, pages),
    flush,
    flushDescriptor: frame => pasidIotlbDescriptor(PasidIotlbGranularity.PAGE, domain, pasid, rangeOf(frame, 1)),
    replace: other => iommu.replacePasid(REQUESTER, pasid, firstStagePasid(other, domain)),
  };
}

/** What the guest sets up in scalable mode before translation begins: requests without PASID use guest-physical addresses. */
export function plainEntries(guest: Guest, more: { readonly dte?: number; readonly pre?: number } = {}): number {
  const { iommu } = guest;
  return iommu.contextEntry(REQUESTER, more) || iommu.pasidEntry(REQUESTER, 0, passThroughPasid(PLAIN_DOMAIN));
}

/** The engine writes `value` at a page of `space`, or at a guest-physical page without one. */
export function fillPage(engine: GuestEngine, frame: number, value: number, space?: DeviceSpace): EngineResult {
  return engine.fill({ ...space?.command, to: frame * PAGE, length: 8, pattern: value * 0x0101_0101 });
}

/** The engine copies from page to page. */
export function copyPage(engine: GuestEngine, from: number, to: number, space?: DeviceSpace): EngineResult {
  return engine.copy({ ...space?.command, from: from * PAGE, to: to * PAGE, length: 8 });
}

function rangeOf(frame: number, pages: number): { hi: number; lo: number; addressMask: number; leaf: boolean } {
  return { hi: frameHi(frame), lo: frameLo(frame), addressMask: Math.ceil(Math.log2(pages)), leaf: false };
}
