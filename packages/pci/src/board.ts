/** A board: what devices are plugged into. The machine supplies RAM, clock and ledger. */
import {
  type AddressSpace,
  type Inspector,
  type Ledger,
  type Ram,
  type Region,
  type ResetPhase,
  type Schema,
  type StateReader,
  type StateWriter,
  token,
  type VirtualClock,
} from '@remora/core';
import type { PciBus } from './bus.js';
import type { MsiLog } from './msi-sink.js';

/** A firmware table, as the board's firmware would hand it to a guest. */
export interface FirmwareTable {
  /** Four characters: `DMAR`. */
  readonly signature: string;
  readonly bytes: Uint8Array;
}

export interface Board extends Disposable {
  readonly name: string;
  readonly memory: Region;
  readonly ports: Region;
  readonly addressSpace: AddressSpace;
  /** The I/O ports as a guest's IN and OUT reach them. */
  readonly portSpace: AddressSpace;
  readonly rootBus: PciBus;
  /** Places of the root bus that no device is given unless it asks for one: where this kind of machine has something by default. */
  readonly reserved?: readonly number[];
  readonly ram: Ram;
  /** Messages that reached the platform. */
  readonly messages: MsiLog;
  /** Tables that describe the machine as it is assembled now. */
  firmwareTables(): FirmwareTable[];
  reset(phase: ResetPhase): void;
  inspect(into: Inspector): void;
  /** As a device's, the board's own functions included; a machine whose board has none cannot be saved. */
  save?(into: StateWriter): void;
  load?(from: StateReader): void;
}

export interface BoardServices {
  readonly name: string;
  /** All of the machine's RAM, `ramBytes(config)` bytes: the machine's own, or pages of a host. */
  readonly ram: Ram;
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
}

export interface BoardKind<C> {
  readonly id: string;
  readonly properties: Schema<C>;
  /** How much RAM this configuration asks for, in bytes: a multiple of 4096. */
  ramBytes(config: C): number;
  create(services: BoardServices, config: C): Board;
}

/** Plug-ins bind their boards to this; every binding counts. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- a heterogeneous set: each kind parses its own configuration
export const BoardKinds = token<BoardKind<any>>('BoardKinds');
