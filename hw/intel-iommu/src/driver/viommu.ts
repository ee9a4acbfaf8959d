/**
 * What a VT-d unit's driver lends to a VM as a whole: the way of the unit's unrecoverable faults to the guest whose tables they are about. Linux 7.3.4
 * has nothing of the kind for VT-d (no vIOMMU type, no vEVENTQ type); this is Remora's extension REMORA_VTD_EVENTS.
 */
import { Errno } from '@remora/core';
import {
  type HostPagingDomain,
  type HostUserDomain,
  type HostViommu,
  type HostViommuOps,
  REMORA_VTD_EVENTS,
  type ViommuReport,
} from '@remora/iommu';
import { Fault, FaultRecord } from '../spec/index.js';
import type { VtdFault } from './fault-log.js';

/** What a guest's own first-stage tables and PASID entry, and where it has them, can be the reason of. */
const OF_TABLES: ReadonlySet<number> = new Set([
  Fault.SPT_5,
  Fault.SPT_6,
  Fault.SFS_1,
  Fault.SFS_2,
  Fault.SFS_3,
  Fault.SFS_4,
  Fault.SFS_5,
  Fault.SFS_6,
  Fault.SFS_7,
  Fault.SFS_8,
  Fault.SFS_9,
  Fault.SFS_10,
  Fault.SGN_1,
  Fault.SGN_2,
  Fault.SGN_3,
  Fault.SGN_6,
  Fault.SGN_7,
  Fault.SGN_8,
]);
/** Nothing is there for the request: a guest did not ask for it, or its host could not. */
const OF_NOTHING: ReadonlySet<number> = new Set([Fault.SCT_2, Fault.SCT_6, Fault.SCT_7, Fault.SPD_2, Fault.SPT_2]);
/** A requester id has 16 bits. */
const REQUESTER_IDS = 0x1_0000;

/** The domain that serves requests of a function with a PASID (NO_PASID: without one) now. */
export type ServedBy = (requesterId: number, pasid: number) => HostUserDomain | undefined;

/** All VMs of a unit. */
export class VtdViommus implements HostViommuOps {
  readonly #servedBy: ServedBy;
  readonly #vms = new Set<VtdViommu>();

  constructor(servedBy: ServedBy) {
    this.#servedBy = servedBy;
  }

  offers(_requesterId: number, type: number): boolean {
    return type === REMORA_VTD_EVENTS;
  }

  createViommu(
    _requesterId: number,
    parent: HostPagingDomain,
    _type: number,
    _data: Uint8Array,
    report: ViommuReport,
  ): HostViommu {
    const vm = new VtdViommu(parent, report, () => this.#vms.delete(vm));
    this.#vms.add(vm);
    return vm;
  }

  /**
   * A fault that the unit recorded (16 bytes). It is a guest's, and taken, if its VM has the function as a virtual device and listens, and either a nested
   * domain served the request and the guest's tables can be the reason, or nothing did. Everything else is the host's.
   */
  readonly claim = (fault: VtdFault, record: Int32Array): boolean => {
    const domain = this.#servedBy(fault.requesterId, fault.pasid);
    const ofTables = domain?.kind === 'nested' && OF_TABLES.has(fault.reason);
    if (!ofTables && !(domain === undefined && OF_NOTHING.has(fault.reason))) return false;
    for (const vm of this.#vms) {
      if (ofTables && vm.parent !== domain.parent) continue;
      if (vm.reportFault(fault.requesterId, record)) return true;
    }
    return false;
  };
}

class VtdViommu implements HostViommu {
  readonly parent: HostPagingDomain;
  readonly eventTypes = [REMORA_VTD_EVENTS];
  readonly #report: ViommuReport;
  readonly #gone: () => void;
  /** The guest's requester id by the unit's. */
  readonly #devices = new Map<number, number>();

  constructor(parent: HostPagingDomain, report: ViommuReport, gone: () => void) {
    this.parent = parent;
    this.#report = report;
    this.#gone = gone;
  }

  /** A unit's driver is asked about its own functions only. */
  serves(): boolean {
    return true;
  }

  createVirtualDevice(requesterId: number, virtHi: number, virtLo: number): Disposable | number {
    if (virtHi !== 0 || virtLo < 0 || virtLo >= REQUESTER_IDS) return -Errno.EINVAL;
    if (this.#devices.has(requesterId)) return -Errno.EEXIST;
    this.#devices.set(requesterId, virtLo);
    return { [Symbol.dispose]: () => void this.#devices.delete(requesterId) };
  }

  reportFault(requesterId: number, record: Int32Array): boolean {
    const virtual = this.#devices.get(requesterId);
    if (virtual === undefined) return false;
    const told = record.slice();
    FaultRecord.fields.sid.set(told, 0, virtual);
    return this.#report(REMORA_VTD_EVENTS, new Uint8Array(told.buffer)) === 0;
  }

  [Symbol.dispose](): void {
    this.#gone();
  }
}
