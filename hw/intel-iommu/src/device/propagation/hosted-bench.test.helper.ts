/** A vIOMMU on a bench, with functions that a scripted host lends to its guest. */
import { AddressSpace, Ledger, Region, WHOLE_SPACE } from '@remora/core';
import {
  HostIommuFlag,
  type HostIOMMUContext,
  type HostIommuEvents,
  type HostPageRequest,
  type HostStage1Fault,
  Stage1Format,
  type Stage1FlushBatch,
} from '@remora/iommu';
import { PciBus, PciFunction } from '@remora/pci';
import { vtdConfig, type VtdConfig } from '../../config/index.js';
import { PasidEntry, PasidIotlbDescriptor, Pgtt, Reg, WaitDescriptor } from '../../spec/index.js';
import { DID, RID, scalableBench, type ScalableTables, type Values } from '../bench.test.helper.js';
import type { Shadows } from '../shadow/shadows.js';
import { HostPropagation } from './host-propagation.js';

/** A flush as a scripted host was asked for it. */
export type Flushed = readonly [pasid: number, address: number, shift: number];

/** A host that does what a test says, and notes what it is asked. */
export class ScriptedContext implements HostIOMMUContext {
  readonly name: string;
  flags: number = HostIommuFlag.NESTING | HostIommuFlag.PAGE_REQUESTS | HostIommuFlag.FAULTS;
  stage1Format: number = Stage1Format.INTEL_VTD;
  readonly replacesAtomically = true;
  /** Every call, in order. */
  readonly calls: string[] = [];
  /** Flushes that were done. */
  readonly done: Flushed[] = [];
  /** The number of entries in each batch. */
  readonly batches: number[] = [];
  /** How many more flushes are done before one is refused with `errno`; Infinity: all. */
  refuseAfter = Infinity;
  /** How many are refused then. */
  refusals = 1;
  errno = -5;
  /** Result of the next calls of respondToPage. */
  response = 0;
  events: HostIommuEvents | undefined;

  constructor(name = 'host') {
    this.name = name;
  }

  pasidAlloc(): number {
    return -19;
  }

  pasidFree(): number {
    return -19;
  }

  bindStage1(_user: number, pasid: number): number {
    this.calls.push(`bind ${pasid}`);
    return 0;
  }

  unbindStage1(_user: number, pasid: number): number {
    this.calls.push(`unbind ${pasid}`);
    return 0;
  }

  flushStage1Caches(batch: Stage1FlushBatch): number {
    this.batches.push(batch.length);
    batch.accepted = 0;
    while (batch.accepted < batch.length) {
      const { granularity, pasid, hi, lo, granuleShift } = batch.begin(batch.accepted);
      if (this.refuseAfter === 0 && this.refusals > 0) {
        if (--this.refusals === 0) this.refuseAfter = Infinity;
        this.calls.push(`refuse ${pasid}`);
        return this.errno;
      }
      this.refuseAfter--;
      this.calls.push(`flush ${pasid}`);
      this.done.push(granularity === 'pasid' ? [pasid, -1, 64] : [pasid, hi * 2 ** 32 + (lo >>> 0), granuleShift]);
      batch.accepted++;
    }
    return 0;
  }

  listen(_user: number, events: HostIommuEvents): Disposable {
    this.events = events;
    return { [Symbol.dispose]: () => (this.events = undefined) };
  }

  respondToPage(_user: number, pasid: number, group: number, code: number): number {
    this.calls.push(`respond ${pasid} ${group} ${code}`);
    return this.response;
  }

  /** A page request; all but the group by default. */
  ask(group: number, values: Partial<HostPageRequest> = {}): void {
    this.events!.pageRequest({ pasid: PASID, hi: 0, lo: 0x7000, access: 3, group, last: true, ...values });
  }

  /** A fault; all but the reason by default. */
  fault(reason: number, values: Partial<HostStage1Fault> = {}): void {
    this.events!.fault({ pasid: PASID, hi: 0, lo: 0x7000, access: 2, addressType: 0, reason, ...values });
  }
}

/** The PASID that hosted functions have bound. */
export const PASID = 5;

export interface Hosted extends ScalableTables {
  readonly ledger: Ledger;
  readonly warnings: string[];
  readonly bus: PciBus;
  readonly fn: PciFunction;
  readonly host: ScriptedContext;
  readonly propagation: HostPropagation;
  /** Byte address of the page request queue, of one page. */
  readonly pages: number;
  /** Lends a further function, at `devfn` below 128, with PRI enabled; its context entry is RID's. */
  lend(devfn: number, context: HostIOMMUContext): PciFunction;
  /** Puts descriptors into the queue, then writes the tail once. */
  queue(...descriptors: readonly Int32Array[]): void;
  /** A wait descriptor with a status word of its own. */
  wait(): Int32Array;
  /** The status words of the waits, in order: 1 once completed. */
  statuses(): number[];
  /** The data of the ledger's events of a kind. */
  logged(kind: string): Readonly<Record<string, unknown>>[];
}

/** What a vIOMMU has that takes page requests. */
export const MODERN = { 'x-scalable-mode': 'modern', 'device-iotlb': true, svm: true } as const;
const WIDE_BYTES = 32;
const CONTEXT_BYTES = 32;

/** A modern vIOMMU with translation and its queues on. RID is lent by a host, has PASID bound, and its PRI is enabled. */
export function hosted(options: Partial<VtdConfig> = {}, context: Values = {}): Hosted {
  const config = { ...MODERN, ...options };
  const ledger = new Ledger();
  ledger.on = true;
  const warnings: string[] = [];
  const shadows = { pasidCacheInvalidate: ok, contextCacheInvalidate: ok, iotlbInvalidate: ok, everything: ok };
  let made: HostPropagation | undefined;
  const tables = scalableBench(
    config,
    { pgtt: Pgtt.PASS_THROUGH },
    { paside: 1, pre: 1, dte: 1, ...context },
    ({ memory }) =>
      (made = new HostPropagation(() => tables.bench.unit, vtdConfig(config), {
        name: 'viommu',
        memory,
        ledger,
        warn: message => void warnings.push(message),
        shadows: shadows as unknown as Shadows,
      })),
    { ledger },
  );
  const { bench, entryOf, first } = tables;
  const propagation = made!;
  const entry = { p: 1, pgtt: Pgtt.FIRST_STAGE, did: DID, fsptptr: first };
  bench.put(entryOf(PASID), PasidEntry.encode(entry));
  const pages = bench.page() * 4096;
  bench.write64(Reg.PQA, pages);
  bench.enableQueue(true);
  const bus = rootBus(RID >>> 8);
  const lend = (devfn: number, host: HostIOMMUContext): PciFunction => {
    const fn = new PciFunction(`lent-${devfn}`, { vendor: 1, device: 2, classCode: 0, pcie: true });
    fn.enablePasid(20);
    fn.enableAts();
    fn.enablePri();
    bus.plug(fn, devfn);
    const entry = tables.context + (devfn - (RID & 0xff)) * CONTEXT_BYTES;
    for (let at = 0; at < CONTEXT_BYTES; at += 8) bench.put64(entry + at, bench.get64(tables.context + at));
    fn.config.write(fn.priCapability!.offset + 4, 1, 2);
    propagation.attach(bus, devfn, host);
    return fn;
  };
  const scripted = new ScriptedContext();
  const fn = lend(RID & 0xff, scripted);
  const statusPage = bench.page();
  let waits = 0;
  return {
    ...tables,
    ledger,
    warnings,
    bus,
    fn,
    host: scripted,
    propagation,
    pages,
    lend,
    queue: (...descriptors) => {
      const base = Number(bench.read64(Reg.IQA) & ~0xfffn);
      let tail = bench.read32(Reg.IQT);
      for (const words of descriptors) {
        bench.put(base + tail, new Int32Array(WIDE_BYTES / 4));
        bench.put(base + tail, words);
        tail = (tail + WIDE_BYTES) % 4096;
      }
      bench.write32(Reg.IQT, tail);
    },
    wait: () => {
      const statusAddressLow = (statusPage * 4096) / 4 + 2 * waits++;
      return WaitDescriptor.encode({ type: 5, sw: 1, statusData: 1, statusAddressLow });
    },
    statuses: () => Array.from({ length: waits }, (_, index) => Number(bench.get64(statusPage * 4096 + 8 * index))),
    logged: kind => ledger.events.filter(event => event.kind === kind).map(({ data }) => data),
  };
}

/** A PASID-IOTLB invalidation of one page, by its number. */
export function flushOf(page: number, pasid = PASID): Int32Array {
  return PasidIotlbDescriptor.encode({ type: 6, g: 3, did: DID, pasid, addr: page });
}

function ok(): number {
  return 0;
}

function rootBus(number: number): PciBus {
  const memory = Region.container('pci', WHOLE_SPACE);
  const addressSpace = new AddressSpace('memory', memory);
  return PciBus.root('pcie.0', { memory, ports: memory, addressSpace, msi: () => undefined, number });
}
