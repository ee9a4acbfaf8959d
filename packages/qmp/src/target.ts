/**
 * What a QMP server controls: a machine, as far as QMP sees it. Whoever starts the server implements it; what a client may get wrong
 * is thrown as QmpError or ConfigError.
 */
import type { PciBus, PciFunction } from '@remora/pci';
import type { AddressSpace } from '@remora/core';
import type { ObjectStore } from './objects.js';
import type { QomNode, QomType } from './qom.js';

export type RunState = 'paused' | 'prelaunch' | 'running' | 'shutdown';
export type ShutdownCause =
  'host-qmp-quit' | 'host-qmp-system-reset' | 'host-signal' | 'host-ui' | 'guest-shutdown' | 'guest-reset';

export interface QmpVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  /** What people call the program, beside its number. */
  readonly package: string;
}

/** A type of machine that could be started, as query-machines lists it. */
export interface MachineInfo {
  readonly name: string;
  readonly alias?: string;
  readonly 'is-default'?: boolean;
  readonly 'cpu-max': number;
  readonly 'hotpluggable-cpus': boolean;
  readonly 'numa-mem-supported': boolean;
  readonly deprecated: boolean;
  readonly 'default-cpu-type'?: string;
  readonly 'default-ram-id'?: string;
  readonly acpi: boolean;
}

export interface ProcessorInfo {
  readonly path: string;
  readonly thread: number;
}

/** A device on a bus, as `info qtree` shows it. */
export interface BusDevice {
  /** Its object. */
  readonly path: string;
  readonly node: QomNode;
  /** As the user gave it; empty if he gave none. */
  readonly id: string;
  /** Further lines about it. */
  readonly details: readonly string[];
  readonly buses: readonly DeviceBus[];
}

export interface DeviceBus {
  readonly name: string;
  /** `System`, `PCIE`, `PCI`. */
  readonly type: string;
  readonly devices: readonly BusDevice[];
}

/** Something that happened, for all clients; `data` is what the schema has for it. */
export interface QmpEvent {
  readonly event: 'SHUTDOWN' | 'RESET' | 'STOP' | 'RESUME' | 'DEVICE_DELETED';
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface QmpTarget {
  readonly version: QmpVersion;
  /** `-name`, if given. */
  readonly name: string | undefined;
  readonly machines: readonly MachineInfo[];
  readonly processors: readonly ProcessorInfo[];
  readonly types: readonly QomType[];
  /** What `-object` and object-add made. */
  readonly objects: ObjectStore;
  readonly state: RunState;
  /** All objects, those of `objects` included, as they are now. */
  tree(): QomNode;
  /** What `info qtree` shows; undefined for a machine without any bus. */
  mainBus(): DeviceBus | undefined;
  readonly rootBuses: readonly PciBus[];
  /** For `info mtree`. */
  readonly addressSpaces: readonly AddressSpace[];
  /** The id that the user gave to the device that `fn` belongs to; empty if he gave none. */
  idOf(fn: PciFunction): string;
  /** State of the IOMMUs, for people: `info iommu`. */
  describeIommus(): string;
  /** Runs the machine or halts it. Does nothing if it is so already. */
  resume(): void;
  stop(): void;
  /** Resets the machine; it is reset when this returns. */
  reset(cause: ShutdownCause): void;
  /** Asks the program to end; it does so after this has returned and the client has its reply. */
  quit(cause: ShutdownCause): void;
  /** Plugs a device, into a bus that allows it. Options are text or what JSON has for their type. */
  addDevice(driver: string, options: Readonly<Record<string, unknown>>): void;
  /** Unplugs the device that it knows by `key`, and before it what sits behind it. */
  removeDevice(key: string): void;
  /** Calls `listener` for each event until what it returns is called. */
  subscribe(listener: (event: QmpEvent) => void): () => void;
}
