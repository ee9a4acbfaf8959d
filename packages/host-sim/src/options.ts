/** What a simulated host is made of. */
import type { AddressSpace, Device, Inspector, Ledger, Ram, Region, Trace, VirtualClock } from '@remora/core';
import type { HostIommuDriver } from '@remora/iommu';
import type { PciDeviceContext, PciFunction, PciIommuOps } from '@remora/pci';
import type { KernelKnobs } from './kernel/knobs.js';
import type { KernelPages } from './memory/kernel-pages.js';

/** What a physical IOMMU finds on the host. */
export interface HostIommuPlatform {
  /** Host-physical memory, by host frame. */
  readonly memory: Ram;
  /** Memory and registers, by host-physical address. */
  readonly addressSpace: AddressSpace;
  /** Pages for the driver's tables and queues. */
  readonly pages: KernelPages;
  readonly ledger: Ledger;
  readonly trace: Trace;
  readonly clock: VirtualClock;
  /** The host's function that has a requester id now. */
  readonly functionAt: (requesterId: number) => PciFunction | undefined;
  /** Maps the unit's registers. */
  mapMmio(base: number, region: Region): void;
  /** Where a message of the unit itself goes. */
  readonly sendMsi: (hi: number, lo: number, data: number) => void;
  /** What the unit's driver programs as the fault message: the host then takes the faults and keeps them. */
  readonly faultMessage: UnitMessage;
  /** The same for its page-request message: the host then takes the requests. */
  readonly pageRequestMessage: UnitMessage;
}

/** Address and data of a message that a unit sends. */
export interface UnitMessage {
  readonly hi: number;
  readonly lo: number;
  readonly data: number;
}

/** A unit and the driver that programs it, plugged into the host. */
export interface PhysicalIommu extends Partial<Disposable> {
  readonly driver: HostIommuDriver;
  readonly pci: PciIommuOps;
  /** What is programmed, JSON-able, for dumps. */
  describe?(): unknown;
  inspect?(into: Inspector): void;
}

/** Makes a host's physical IOMMU. */
export interface HostIommuFactory {
  (platform: HostIommuPlatform): PhysicalIommu;
  /** What makes another one like it, by name, with `options`: a host that is saved needs it. */
  readonly model?: string;
  /** Text, numbers and truth values. */
  readonly options?: Readonly<Record<string, unknown>>;
}

/**
 * Decides what of the kernel's own work fails: told what is about to be allocated or queued, it returns 0, or the negated errno with which that
 * fails. Linux: fault injection (failslab, fail_nth).
 */
export type FailureInjector = (what: string) => number;

export interface HostDevice {
  /** `0000:3f:00.0`. */
  readonly at: string;
  /** Devices that name the same group are lent together. Default: a group of its own. */
  readonly group?: string;
  /** Kernel driver; default 'vfio-pci', null for none. Only what is bound to vfio-pci is lent. */
  readonly boundTo?: string | null;
  /** Whether the kernel knows a way to reset it alone; default true. */
  readonly resettable?: boolean;
  create(context: PciDeviceContext): Device;
}

export interface SimulatedHostOptions {
  /** Bytes of RAM, a multiple of 1 MiB; default 256 MiB. */
  readonly memory?: number;
  /**
   * The memory itself, `memory` bytes of it and no more than 3 GiB, where others have it, too: those who have it as one piece know nothing of
   * frames, so that what a process maps is neighbouring frames then, as huge pages are. Default: memory of its own, scattered.
   */
  readonly ram?: Ram;
  /** Moves host frames, process addresses and PASIDs; default 1. */
  readonly seed?: number;
  readonly devices?: readonly HostDevice[];
  /** Without one, VFIO lends nothing. */
  readonly iommu?: HostIommuFactory;
  /** Departures from the kernel that RFC v3.1 was written for. */
  readonly kernel?: Partial<KernelKnobs>;
  /** Default: nothing fails. */
  readonly failures?: FailureInjector;
  readonly clock?: VirtualClock;
  readonly ledger?: Ledger;
  readonly trace?: Trace;
}
