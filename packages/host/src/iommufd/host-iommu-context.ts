/**
 * The HostIOMMUContext of one device behind iommufd. A binding is a nested hardware page table of the device's own, attached at its PASID; PASID 0
 * stands for requests without one. A new table replaces the old one at once, which is destroyed after that: a failure leaves the old one in
 * force.
 */
import { Errno, type Ledger, logger, NO_PASID } from '@remora/core';
import {
  type HostIOMMUContext,
  HostIommuFlag,
  type HostIommuEvents,
  type HostPolicy,
  type Stage1Config,
  type Stage1FlushBatch,
  Stage1Format,
} from '@remora/iommu';
import { IommuHwCap, IommuHwptAllocFlag, IommuHwptDataType, IommuInvalidateDataType } from '@remora/uapi';
import type { BoundDevice } from './bound-device.js';
import { hasPageRequests } from './extended-capability.js';
import { FaultEvents } from './fault-events.js';
import type { Iommufd } from './iommufd.js';
import { PageRequests } from './page-requests.js';
import type { PasidNumbers } from './pasid-numbers.js';
import { INVALIDATION_BYTES, InvalidationArray, stage1Payload } from './stage1-payload.js';

export interface IommufdContextHome {
  readonly name: string;
  readonly iommufd: Iommufd;
  readonly device: BoundDevice;
  /** The nesting parent that the device is attached to. */
  readonly parent: number;
  readonly pasids: PasidNumbers;
  readonly ledger?: Ledger | undefined;
}

export class IommufdHostIOMMUContext implements HostIOMMUContext, Disposable {
  readonly name: string;
  readonly flags: number;
  readonly stage1Format = Stage1Format.INTEL_VTD;
  readonly replacesAtomically = true;
  readonly #home: IommufdContextHome;
  readonly #log;
  readonly #array: InvalidationArray;
  /** Nested tables by PASID. */
  readonly #bindings = new Map<number, number>();
  /** Tables that nothing uses any more and the host would not destroy yet. */
  readonly #left = new Set<number>();
  readonly #pageRequests: PageRequests | undefined;
  readonly #faults: FaultEvents | undefined;
  /** The host takes no page requests of this device, whatever its configuration space says. */
  #withoutPageRequests = false;
  /** PASIDs that the nesting parent serves: guest-physical addresses. All others without a binding are refused. */
  readonly #passThrough = new Set([0]);

  constructor(home: IommufdContextHome) {
    this.#home = home;
    this.name = home.name;
    this.#log = logger('remora:host:iommufd', home.name);
    this.#array = new InvalidationArray(home.iommufd.payload.size);
    const { iommufd, device, parent } = home;
    const queue = hasPageRequests(device.device) ? iommufd.allocFaultQueue() : -Errno.ENODEV;
    this.#pageRequests = typeof queue === 'number' ? undefined : new PageRequests(iommufd.syscalls, queue);
    this.#faults = FaultEvents.open(iommufd, device, parent);
    this.flags =
      HostIommuFlag.NESTING |
      HostIommuFlag.PASID_0 |
      (device.hardware.pasidBits > 0 ? HostIommuFlag.PASID_REQUEST | HostIommuFlag.GUEST_PASIDS : 0) |
      (this.#pageRequests === undefined ? 0 : HostIommuFlag.PAGE_REQUESTS) |
      (this.#faults === undefined ? 0 : HostIommuFlag.FAULTS);
  }

  /**
   * The PASIDs that the host has the device use: its configuration space may not show that capability, which belongs to the host's kernel.
   * Undefined for none.
   */
  get functionPasids():
    { readonly width: number; readonly execute: boolean; readonly privileged: boolean } | undefined {
    const { pasidBits, capabilities } = this.#home.device.hardware;
    if (pasidBits === 0) return undefined;
    return {
      width: pasidBits,
      execute: (capabilities & IommuHwCap.PCI_PASID_EXEC) !== 0,
      privileged: (capabilities & IommuHwCap.PCI_PASID_PRIV) !== 0,
    };
  }

  /** Nested tables that are attached, by PASID. For inspection. */
  get bindings(): ReadonlyMap<number, number> {
    return this.#bindings;
  }

  /** PASIDs that use guest-physical addresses. For inspection. */
  get passThrough(): ReadonlySet<number> {
    return this.#passThrough;
  }

  pasidAlloc(min: number, max: number): number {
    return this.#home.pasids.allocate(min, Math.min(max, 2 ** this.#home.device.hardware.pasidBits - 1));
  }

  pasidFree(pasid: number): number {
    return this.#home.pasids.free(pasid);
  }

  bindStage1(_user: number, pasid: number, config: Stage1Config): number {
    this.#hold();
    const result = this.#bind(pasid, config);
    this.#release();
    return result;
  }

  /** -EINVAL for a PASID that is not bound. If the host refuses, the binding stays. */
  unbindStage1(user: number, pasid: number): number {
    return this.#bindings.has(pasid) ? this.withoutStage1(user, pasid, 'abort') : -Errno.EINVAL;
  }

  withoutStage1(_user: number, pasid: number, policy: HostPolicy): number {
    const passes = policy === 'pass-through';
    const bound = this.#bindings.has(pasid);
    if (!bound && this.#passThrough.has(pasid) === passes) return 0;
    this.#hold();
    const { device, parent } = this.#home;
    const result = passes
      ? this.#checked('ATTACH', device.attach(parent, pasid))
      : this.#checked('DETACH', device.detach(pasid));
    if (result === 0) {
      this.#forget(pasid);
      if (passes) this.#passThrough.add(pasid);
    }
    this.#release();
    return result;
  }

  /** One array for each run of flushes of the same PASID. */
  flushStage1Caches(batch: Stage1FlushBatch): number {
    batch.accepted = 0;
    this.#hold();
    let result = 0;
    while (result === 0 && batch.accepted < batch.length) result = this.#flushRun(batch);
    this.#release();
    return result;
  }

  listen(_user: number, events: HostIommuEvents): Disposable {
    const listening = [this.#pageRequests?.listen(events), this.#faults?.listen(events)];
    return { [Symbol.dispose]: () => listening.forEach(each => each?.[Symbol.dispose]()) };
  }

  respondToPage(_user: number, pasid: number, group: number, code: number): number {
    return this.#pageRequests?.respond(pasid, group, code) ?? -Errno.EINVAL;
  }

  /** What serves PASIDs goes, then what it was made with. The nesting parent may still serve requests without PASID. */
  [Symbol.dispose](): void {
    this.#passThrough.delete(0);
    for (const pasid of [...this.#bindings.keys(), ...this.#passThrough]) {
      this.#checked('DETACH', this.#home.device.detach(pasid));
      this.#forget(pasid);
    }
    this.#destroyLeft();
    this.#faults?.[Symbol.dispose]();
    this.#pageRequests?.[Symbol.dispose]();
    if (this.#pageRequests !== undefined) this.#home.iommufd.destroy(this.#pageRequests.id);
  }

  #bind(pasid: number, config: Stage1Config): number {
    const { device } = this.#home;
    const hwpt = this.#allocate(config);
    if (hwpt < 0) return this.#checked('HWPT_ALLOC', hwpt);
    const attached = device.attach(hwpt, pasid);
    if (attached < 0) {
      this.#destroy(hwpt);
      if (!this.#givesUpPageRequests(attached)) return this.#checked('ATTACH', attached);
      return this.#bind(pasid, config);
    }
    this.#destroyLeft();
    this.#forget(pasid);
    this.#bindings.set(pasid, hwpt);
    this.#home.pasids.bound(pasid);
    return 0;
  }

  #allocate(config: Stage1Config): number {
    const { iommufd, device, parent } = this.#home;
    const faultQueue = this.#withoutPageRequests ? undefined : this.#pageRequests?.id;
    return iommufd.allocHwpt({
      flags:
        (device.hardware.pasidBits > 0 ? IommuHwptAllocFlag.PASID : 0) |
        (faultQueue === undefined ? 0 : IommuHwptAllocFlag.FAULT_ID_VALID),
      device: device.id,
      parent,
      dataType: IommuHwptDataType.VTD_S1,
      data: stage1Payload(config),
      ...(faultQueue === undefined ? {} : { faultQueue }),
    });
  }

  /** A kernel that has not enabled page requests of the device says so when a table with a fault queue is attached. */
  #givesUpPageRequests(errno: number): boolean {
    if (errno !== -Errno.ENODEV || this.#pageRequests === undefined || this.#withoutPageRequests) return false;
    this.#withoutPageRequests = true;
    const message = `the host takes no page requests of ${this.#home.device.bdf}: its page faults are not forwarded`;
    this.#log.warn('%s', message);
    const { ledger } = this.#home;
    if (ledger?.on === true) ledger.add(this.name, 'warning', { message });
    return true;
  }

  #flushRun(batch: Stage1FlushBatch): number {
    const { iommufd } = this.#home;
    const first = batch.accepted;
    const { pasid } = batch.begin(first);
    const hwpt = this.#bindings.get(pasid);
    if (hwpt === undefined) return this.#nothingToFlush(batch, pasid);
    const room = Math.min(batch.length - first, this.#array.capacity);
    let count = 0;
    for (; count < room; count++) {
      const flush = batch.begin(first + count);
      if (flush.pasid !== pasid) break;
      this.#array.set(count, flush);
    }
    iommufd.payload.put(this.#array.first(count));
    if (count > 1) batch.begin(first);
    const result = iommufd.invalidate(hwpt, IommuInvalidateDataType.VTD_S1, INVALIDATION_BYTES, count);
    const done = Math.min(iommufd.invalidated, count);
    batch.accepted = first + done;
    if (result < 0) return this.#checked('HWPT_INVALIDATE', result);
    return done === count ? 0 : this.#checked('HWPT_INVALIDATE', -Errno.EIO);
  }

  /** Guest-physical addresses have no first stage. A PASID that is refused has nothing that could be flushed: the caller is wrong. */
  #nothingToFlush(batch: Stage1FlushBatch, pasid: number): number {
    if (!this.#passThrough.has(pasid)) return this.#checked('flush', -Errno.EINVAL);
    batch.accepted++;
    return 0;
  }

  /** Nothing of a PASID is left, of what served it before. */
  #forget(pasid: number): void {
    this.#passThrough.delete(pasid);
    const hwpt = this.#bindings.get(pasid);
    if (hwpt === undefined) return;
    this.#bindings.delete(pasid);
    this.#pageRequests?.abandoned(pasid === 0 ? NO_PASID : pasid);
    this.#home.pasids.unbound(pasid);
    this.#destroy(hwpt);
  }

  #destroy(hwpt: number): void {
    if (this.#checked('DESTROY', this.#home.iommufd.destroy(hwpt)) < 0) this.#left.add(hwpt);
  }

  #destroyLeft(): void {
    for (const id of [...this.#left]) if (this.#home.iommufd.destroy(id) === 0) this.#left.delete(id);
  }

  #checked(what: string, result: number): number {
    if (result < 0) this.#log.warn('%s failed: %d', what, result);
    return result;
  }

  #hold(): void {
    this.#pageRequests?.file.hold();
    this.#faults?.file.hold();
  }

  #release(): void {
    this.#faults?.file.release();
    this.#pageRequests?.file.release();
  }
}
