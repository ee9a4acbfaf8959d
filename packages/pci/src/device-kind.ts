/** Device kinds: what plug-ins bring, and all that a device is given. A device never looks a service up. */
import {
  type AddressSpace,
  type Device,
  type Ledger,
  type Region,
  type Schema,
  token,
  type Trace,
  type VirtualClock,
} from '@remora/core';
import type { PciBus } from './bus.js';
import type { PciFunction } from './function.js';

export interface DeviceServices {
  /** The id in the machine: `engine0`. */
  readonly name: string;
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  readonly trace: Trace;
}

export interface PciDeviceContext extends DeviceServices {
  /** Plugs `fn` at the configured place. Called in realize(). @throws ConfigError if the place is taken. */
  plug(fn: PciFunction): void;
  /** The process on the host that the machine runs in (a MachineProcess of the host package); undefined without a host. */
  readonly host: unknown;
  /** The machine's memory as a host sees it. */
  readonly guestMemory: AddressSpace;
}

export interface SystemDeviceContext extends DeviceServices {
  /** The container of system memory. */
  readonly memory: Region;
  /** The container of I/O ports, 64 KiB. */
  readonly ports: Region;
  readonly addressSpace: AddressSpace;
  readonly rootBus: PciBus;
  /** A message of the device itself into the machine's interrupt sink. */
  msi(hi: number, lo: number, data: number): void;
}

export interface DeviceContexts {
  readonly pci: PciDeviceContext;
  readonly system: SystemDeviceContext;
}

/** Where a PCI device goes and what it is called: options of every PCI device, beside its kind's own. */
export interface PciPlacement {
  /** Its name in the machine; also that of its bus, if it is a bridge. */
  readonly id?: string;
  /** The bus to plug it into: `pcie.0` (the default), or a bridge's id. */
  readonly bus?: string;
  /** Device and function: `03.0`; the first free device by default. */
  readonly addr?: string;
}

/** What a typed helper such as `dmaEngine()` returns: the same as an option string. */
export interface TypedDevice {
  readonly driver: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** A kind of device as `-device id,property=value` names it. `C` is its parsed configuration. */
export interface DeviceKind<C, B extends keyof DeviceContexts = keyof DeviceContexts> {
  readonly id: string;
  /** Other names for the same kind. */
  readonly aliases?: readonly string[];
  readonly bus: B;
  readonly properties: Schema<C>;
  /** What others may wait for, for instance `iommu`. */
  readonly provides?: readonly string[];
  /** Names of the events that its devices trace. */
  readonly traceEvents?: readonly string[];
  /** Realized after all devices that provide these. */
  readonly after?: readonly string[];
  create(context: DeviceContexts[B], config: C): Device;
}

/** Any kind: what the composition root collects. `config` was parsed by the kind's own properties. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- a heterogeneous set: each kind parses its own configuration
export type AnyDeviceKind = DeviceKind<any, 'pci'> | DeviceKind<any, 'system'>;

/** Plug-ins bind their kinds to this; every binding counts. */
export const DeviceKinds = token<AnyDeviceKind>('DeviceKinds');
