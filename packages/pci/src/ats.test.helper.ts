/** An IOMMU that answers ATS requests from a list, and a function with a device TLB below it. */
import { Access, AddressSpace, MemTx, NO_PASID, Region, VirtualClock, WHOLE_SPACE } from '@remora/core';
import { type AtsCompletion, AtsStatus, type PageRequest } from '@remora/iommu';
import { AtsLayout, PriLayout } from './layouts.js';
import { DeviceTlb, type DeviceTlbOptions } from './device-tlb.js';
import { DeviceTlbChannel } from './device-tlb-channel.js';
import { type PciIommuOps, pciSetupIommu } from './iommu.js';
import type { PciBus } from './bus.js';
import type { PciFunction } from './function.js';
import { enable, endpoint, platform } from './platform.test.helper.js';

const PAGE = 4096;

export interface FakeMapping {
  /** Byte address of the target page. */
  readonly to: number;
  readonly access?: number;
  readonly shift?: number;
  readonly untranslatedOnly?: boolean;
}

export class FakeIommu implements PciIommuOps {
  readonly wantsNesting = false;
  /** What was asked: requester id, PASID, hi, lo, access. */
  readonly asked: number[][] = [];
  /** Translated requests that came: requester id, PASID, hi, lo, access. */
  readonly translated: number[][] = [];
  readonly requests: PageRequest[] = [];
  status: AtsStatus = AtsStatus.OK;
  translatedStatus: AtsStatus = AtsStatus.OK;
  /** What becomes of a page request; default: it is taken, and no response comes. */
  onPageRequest: (request: PageRequest) => boolean = () => true;
  /** Called in each translation request. */
  onAsked: () => void = () => undefined;
  /** By PASID and byte address of the page. */
  readonly #map = new Map<string, FakeMapping>();
  /** Untranslated requests find nothing. */
  readonly #space = new AddressSpace('untranslated', Region.container('untranslated', WHOLE_SPACE));

  map(pasid: number, from: number, mapping: FakeMapping): void {
    this.#map.set(`${pasid}:${from}`, mapping);
  }

  unmap(pasid: number, from: number): void {
    this.#map.delete(`${pasid}:${from}`);
  }

  addressSpaceFor(): AddressSpace {
    return this.#space;
  }

  translationRequest(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: AtsCompletion,
  ): AtsStatus {
    this.asked.push([requesterId, pasid, hi, lo, access]);
    const found = this.#map.get(`${pasid}:${(hi >>> 0) * 2 ** 32 + (lo >>> 0)}`);
    out.hi = Math.floor((found?.to ?? 0) / 2 ** 32);
    out.lo = (found?.to ?? 0) % 2 ** 32;
    out.shift = found?.shift ?? 12;
    out.access = found === undefined ? 0 : (found.access ?? Access.READ_WRITE);
    out.untranslatedOnly = found?.untranslatedOnly ?? false;
    this.onAsked();
    return this.status;
  }

  translatedRequest(requesterId: number, pasid: number, hi: number, lo: number, access: number): AtsStatus {
    this.translated.push([requesterId, pasid, hi, lo, access]);
    return this.translatedStatus;
  }

  pageRequest(request: PageRequest): boolean {
    this.requests.push(request);
    return this.onPageRequest(request);
  }
}

/** Writes the ATS control register. */
export function enableAts(fn: PciFunction, on = true, stu = 0): void {
  const words = AtsLayout.encode({ enable: Number(on), stu });
  fn.config.write(fn.atsCapability!.offset + 6, words[1]! >>> 16, 2);
}

/** Writes the PRI allocation and control registers. */
export function enablePri(fn: PciFunction, on = true, allocation = 32): void {
  fn.config.write(fn.priCapability!.offset + 12, allocation, 4);
  fn.config.write(fn.priCapability!.offset + 4, Number(on), 2);
}

/** Fields of the PRI capability. */
export function priState(fn: PciFunction): Record<string, number> {
  const words = fn.config.words.subarray(fn.priCapability!.offset / 4);
  const { enable: on, responseFailure, unexpectedIndex, stopped } = PriLayout.fields;
  const get = (field: typeof on): number => field.get(words, 0);
  return { enable: get(on), failure: get(responseFailure), unexpected: get(unexpectedIndex), stopped: get(stopped) };
}

export interface TlbSetup extends Omit<DeviceTlbOptions, 'clock'> {
  /** Whether the device TLB has the clock; default true. */
  readonly clocked?: boolean;
  readonly pri?: boolean;
  readonly allocation?: number;
  readonly capacity?: number;
}

/** A function at 00:03.0 with ATS (and PRI) enabled, and one channel. */
export function tlbSetup({ pri = false, allocation, capacity, clocked = true, ...options }: TlbSetup = {}) {
  const { root, addressSpace, messages } = platform();
  const iommu = new FakeIommu();
  pciSetupIommu(root, iommu);
  const clock = new VirtualClock();
  const fn = endpoint('endpoint', { pcie: true });
  fn.enablePasid(20);
  fn.enableAts();
  if (pri) fn.enablePri(capacity === undefined ? {} : { capacity });
  const tlb = new DeviceTlb(fn, { ...options, ...(clocked ? { clock } : {}) });
  root.plug(fn, 0x18);
  enable(fn);
  enableAts(fn);
  if (pri) enablePri(fn, true, allocation);
  const resumed: number[] = [];
  const channel = new DeviceTlbChannel(fn, tlb, () => resumed.push(clock.now));
  /** Reads 4 bytes through the channel: the result, and what came. */
  const read = (address: number, pasid = NO_PASID, flags = 0): [number, number] => {
    const out = new Uint8Array(4);
    const result = channel.read(Math.floor(address / 2 ** 32), (address % 2 ** 32) | 0, out, pasid, flags);
    return [result, out[0]!];
  };
  const write = (address: number, value: number, pasid = NO_PASID): number =>
    channel.write(Math.floor(address / 2 ** 32), (address % 2 ** 32) | 0, new Uint8Array(4).fill(value), pasid);
  const memory = (address: number, value?: number): number => {
    const bytes = new Uint8Array(1).fill(value ?? 0);
    if (value === undefined) addressSpace.read(0, address, bytes);
    else addressSpace.write(0, address, bytes);
    return bytes[0]!;
  };
  const flush = (pasid: number, address: number, shift = 12, global = false): boolean =>
    tlb.invalidate(pasid, global, Math.floor(address / 2 ** 32), (address % 2 ** 32) | 0, shift, () => undefined);
  return { root: root satisfies PciBus, fn, iommu, tlb, channel, clock, messages, resumed, read, write, memory, flush };
}

export const OK = MemTx.OK;
export const NOTHING: [number, number] = [MemTx.ACCESS_ERROR, 0];
export { PAGE };
