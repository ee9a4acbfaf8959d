/**
 * HostViommuOps: the slice of a physical IOMMU that a host lends to one VM, and what belongs to it: virtual devices (under which numbers the
 * guest knows functions), raw commands of the guest, hardware queues, and events on their way up. Vendors' payloads travel as bytes; type
 * numbers are linux/iommufd.h's. Results are 0 or a negated errno; when negative, nothing has changed.
 */
import type { HostInvalidation, HostNestedDomain, HostNestedOptions, HostPagingDomain } from './host-iommu-user.js';

/**
 * vIOMMU type and vEVENTQ type by which Remora's simulated host hands unrecoverable faults of VT-d that are a guest's to its VMM: an extension,
 * outside Linux's numbering (Linux 7.3.4 has no way for them). An event is a fault record of 16 bytes as in VT-d's FRCD registers, F set, with
 * the virtual requester id as source id.
 */
export const REMORA_VTD_EVENTS = 0x5245_0001;

export interface HostViommuOps {
  /** Whether the function's unit has vIOMMUs of this type. */
  offers(requesterId: number, type: number): boolean;
  /**
   * Lends what the function needs, over `parent`, a nesting parent. `data` is the VMM's payload, which the driver may write into (CMDQ-V: where its
   * page is). -EINVAL for a parent or payload that does not fit.
   */
  createViommu(
    requesterId: number,
    parent: HostPagingDomain,
    type: number,
    data: Uint8Array,
    report: ViommuReport,
  ): HostViommu | number;
}

/**
 * The host takes an event of vEVENTQ type `type`. `record` belongs to the driver and is reused. -EOPNOTSUPP if nobody asked for this type: the
 * driver then treats the event as the host's own.
 */
export type ViommuReport = (type: number, record: Uint8Array) => number;

export interface HostViommu extends Disposable {
  readonly parent: HostPagingDomain;
  /** The vEVENTQ types whose events it reports. */
  readonly eventTypes: readonly number[];
  /** Whether the function is behind the unit of which this is a share: nothing of it fits others. */
  serves(requesterId: number): boolean;
  /** A nested domain of this VM, as createNested of HostIommuUserOps makes one. Absent: they are made over the parent alone. */
  createNested?(dataType: number, data: Uint8Array, options: HostNestedOptions): HostNestedDomain | number;
  /**
   * The guest's own cache commands: `count` entries of `entryLength` bytes, in order. The result is the vIOMMU's own object, valid until the next call.
   * Absent: this vIOMMU takes no commands.
   */
  invalidate?(dataType: number, entryLength: number, entries: Uint8Array, count: number): HostInvalidation;
  /**
   * The guest knows a function that it serves under the number (virtHi, virtLo): SMMUv3 a StreamID, VT-d a requester id. -EINVAL for a number that the
   * vendor cannot have.
   */
  createVirtualDevice(requesterId: number, virtHi: number, virtLo: number): Disposable | number;
  /**
   * A hardware queue of type `type` whose ring is at the host-physical byte address `base`, contiguous, `length` bytes. -EOPNOTSUPP for a type that is
   * not offered, -EEXIST, -EINVAL beyond the last index, -EIO out of order.
   */
  createHardwareQueue?(type: number, index: number, base: number, length: number): HostHardwareQueue | number;
  /** The types that createHardwareQueue knows; absent: none. */
  readonly hardwareQueueTypes?: readonly number[];
}

export interface HostHardwareQueue extends Disposable {
  /** One that must not go before this one does (CMDQ-V: that of the index below). */
  readonly needs: HostHardwareQueue | undefined;
}
