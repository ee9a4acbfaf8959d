/**
 * A host whose DMA engines ask for pages, lent to a guest through iommufd: the guest's vIOMMU takes page requests, and the guest uses them as
 * Linux does.
 */
import assert from 'node:assert/strict';
import type { KernelKnobs, SimulatedHost } from '@remora/host-sim';
import { createHost, type Host } from '@remora/machine';
import { ENGINE, GuestAts, physicalVtd, SECOND_ENGINE } from '@remora/machines';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import type { PageRequestHandler, VtdPageRequest } from '@hw/intel-iommu/driver';
import { Rig, type RigOptions } from '../rig/rig.js';
import { SharedSpace } from '../propagation/shared-space.js';

const MIB = 0x10_0000;
/** Where the guest finds the first function that the host lends. */
export const BDF = '00:03.0';
/** Context-cache granularity. */
const GLOBAL = 1;

export interface LentEngineOptions extends RigOptions {
  /** Called with the host before the machine is made. */
  readonly prepare?: (host: Host<SimulatedHost>) => void;
  /** Whether the engines have device TLBs and ask for pages; default true. */
  readonly asks?: boolean;
  /** Whether the guest answers page requests when it handles them; default: it withholds its answers. */
  readonly handler?: PageRequestHandler;
}

export class LentEngine implements Disposable {
  readonly hostLevel: Host<SimulatedHost>;
  readonly rig: Rig;
  readonly space: SharedSpace;
  readonly ats: GuestAts;
  /** Requests whose answer is withheld, oldest first. */
  readonly withheld: VtdPageRequest[] = [];

  constructor({ asks = true, prepare, handler, knobs, ...options }: LentEngineOptions = {}) {
    this.hostLevel = askingHost(knobs, asks);
    try {
      prepare?.(this.hostLevel);
      this.rig = new Rig({
        host: this.hostLevel,
        objects: ['iommufd,id=iommufd0'],
        vfio: 'iommufd=iommufd0',
        iommu: 'device-iotlb=on,svm=on',
        ...options,
      });
    } catch (error) {
      this.hostLevel[Symbol.dispose]();
      throw error;
    }
    const { rig } = this;
    const { iommu } = rig.guest;
    iommu.enablePageRequests({ handler: handler ?? (request => void this.withheld.push(request)) });
    iommu.contextEntry(rig.requesterId(), { dte: 1, pre: 1 });
    rig.contextCache(GLOBAL);
    this.ats = new GuestAts(rig.machine, BDF);
    if (asks) this.enable();
    this.space = new SharedSpace(rig).bind();
    rig.take();
  }

  /** Handles what is queued. Returns how many requests there were. */
  handle(): number {
    return this.rig.guest.iommu.pageRequests.handle();
  }

  /** Answers the oldest request that is withheld. 0 or a negated errno. */
  answer(code = 0): number {
    const request = this.withheld.shift();
    assert.ok(request, 'nothing was asked');
    return this.rig.guest.iommu.pageRequests.respond(request, code);
  }

  /** As Linux does at probe. */
  enable(bdf = BDF): void {
    const ats = new GuestAts(this.rig.machine, bdf);
    ats.enablePasid();
    ats.enable();
    ats.enablePageRequests();
  }

  [Symbol.dispose](): void {
    this.rig[Symbol.dispose]();
    this.hostLevel[Symbol.dispose]();
  }
}

/** A host like `lendingHost`, whose unit has ATS and page requests, and its engines, too, if they ask. */
function askingHost(kernel: Partial<KernelKnobs> = {}, asks: boolean): Host<SimulatedHost> {
  return createHost({
    memory: 256 * MIB,
    iommu: physicalVtd({ 'device-iotlb': true, svm: true }),
    kernel,
    seed: 1,
    plugins: [dmaEnginePlugin],
    devices: [ENGINE, SECOND_ENGINE].map(addr => dmaEngine({ addr, ats: asks, pri: asks })),
  });
}
