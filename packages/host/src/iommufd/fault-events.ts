/**
 * Unrecoverable faults of a device's nested tables, where the host reports them: a vIOMMU of Remora's own type and the event queue of the same
 * (REMORA_VTD_EVENTS; Linux 7.3 has neither for VT-d). A record is one of VT-d's fault recording registers.
 */
import { Access, NO_PASID } from '@remora/core';
import { type HostIommuEvents, type HostStage1Fault, REMORA_VTD_EVENTS } from '@remora/iommu';
import { IommufdVeventHeader, IommuVeventFlag, viewOf } from '@remora/uapi';
import type { BoundDevice } from './bound-device.js';
import type { Iommufd } from './iommufd.js';
import { ReportFile } from './report-file.js';

const RECORD_BYTES = 16;
const DEPTH = 256;
/** Sequence numbers count up to INT_MAX and begin again. */
const SEQUENCES = 2 ** 31;
/** The guest behind the vIOMMU has one device there, whatever number it knows it by: its reports need no number. */
const VIRTUAL_ID = 0;

export class FaultEvents implements Disposable {
  readonly file: ReportFile;
  readonly #iommufd: Iommufd;
  /** In the order in which they have to go. */
  readonly #objects: readonly number[];
  #events: HostIommuEvents | undefined;
  #next = 0;

  private constructor(iommufd: Iommufd, objects: readonly [queue: number, device: number, viommu: number], fd: number) {
    this.#iommufd = iommufd;
    this.#objects = objects;
    this.file = new ReportFile(iommufd.syscalls, fd, 4, bytes => this.#take(bytes));
  }

  /** Undefined if the host does not offer it: nothing is left there then. */
  static open(iommufd: Iommufd, device: BoundDevice, parent: number): FaultEvents | undefined {
    const viommu = iommufd.allocViommu(REMORA_VTD_EVENTS, device.id, parent);
    if (viommu < 0) return undefined;
    const virtual = iommufd.allocVirtualDevice(viommu, device.id, VIRTUAL_ID);
    const queue = virtual < 0 ? virtual : iommufd.allocEventQueue(viommu, REMORA_VTD_EVENTS, DEPTH);
    if (typeof queue === 'object') return new FaultEvents(iommufd, [queue.id, virtual, viommu], queue.fd);
    if (virtual >= 0) iommufd.destroy(virtual);
    iommufd.destroy(viommu);
    return undefined;
  }

  /** One listener at a time. */
  listen(events: HostIommuEvents): Disposable {
    this.#events = events;
    return {
      [Symbol.dispose]: () => {
        if (this.#events === events) this.#events = undefined;
      },
    };
  }

  /** After the tables on it. */
  [Symbol.dispose](): void {
    this.file[Symbol.dispose]();
    for (const id of this.#objects) this.#iommufd.destroy(id);
  }

  #take(bytes: Uint8Array): void {
    const view = viewOf(bytes);
    const { flags, sequence } = IommufdVeventHeader.fields;
    for (let at = 0; at + IommufdVeventHeader.size <= bytes.length;) {
      const lost = (flags.get(view, at) & IommuVeventFlag.LOST_EVENTS) !== 0;
      const number = sequence.get(view, at);
      const missing = (number - this.#next + SEQUENCES) % SEQUENCES;
      this.#next = (number + 1) % SEQUENCES;
      at += IommufdVeventHeader.size;
      if (lost) this.#events?.lost(missing);
      if (lost) continue;
      if (missing > 0) this.#events?.lost(missing);
      if (at + RECORD_BYTES <= bytes.length) this.#events?.fault(faultOf(view, at));
      at += RECORD_BYTES;
    }
  }
}

/** vtd.md 1.14: T1 and T2 give the type of the request, PP whether it had a PASID. */
function faultOf(view: DataView, at: number): HostStage1Fault {
  const [lo, hi] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
  const [third, fourth] = [view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
  const withPasid = (third & 0x8000_0000) !== 0;
  return {
    pasid: withPasid ? (fourth >>> 8) & 0xf_ffff : NO_PASID,
    hi,
    lo: (lo & ~0xfff) >>> 0,
    access: accessOf((fourth & 0x4000_0000) !== 0, third),
    addressType: addressType((fourth >>> 28) & 3),
    reason: fourth & 0xff,
  };
}

/** T1 reads, T2 with it does both; T2 alone is a page request, whose accesses no register tells. */
function accessOf(t1: boolean, third: number): number {
  const t2 = (third & 0x1000_0000) !== 0;
  const data = t1 ? (t2 ? Access.READ_WRITE : Access.READ) : t2 ? Access.NONE : Access.WRITE;
  return (
    data |
    (third & 0x4000_0000 ? Access.EXECUTE : Access.NONE) |
    (third & 0x2000_0000 ? Access.PRIVILEGED : Access.NONE)
  );
}

function addressType(bits: number): 0 | 1 | 2 {
  return bits === 1 || bits === 2 ? bits : 0;
}
