/**
 * A machine: a board, the devices on it, and the guest's side of both. Assembled by createMachine(), started once, closed once.
 */
import {
  ConfigError,
  Inspector,
  Lifecycle,
  type AddressSpace,
  type Device,
  type Ledger,
  type StateReader,
  type StateWriter,
  type Trace,
  type VirtualClock,
} from '@remora/core';
import type { MachineProcess } from '@remora/host';
import {
  formatDevfn,
  PLATFORM_REQUESTER,
  type AnyDeviceKind,
  type Board,
  type MsiLog,
  type PciBus,
  type PciFunction,
} from '@remora/pci';
import { AssembledDevice, type DeviceSurroundings } from './assembled-device.js';
import { ConfigurationSpaces } from './configuration-spaces.js';
import { plainOptions, type DescribedDevice, type MachineDescription } from './description.js';
import type { Kinds } from './device-kinds.js';
import type { DeviceSpec } from './device-spec.js';
import type { Host } from './host.js';
import { loadMachine, resumeMachine, saveMachine, type ResumedBy } from './machine-state.js';
import { planDevices, type PlannedDevice, type Surroundings } from './plan.js';
import type { Scope } from './scope.js';
import { Slots } from './slots.js';

/** What createMachine() puts together; a machine closes all of it with its scope. */
export interface MachineParts {
  readonly name: string;
  readonly scope: Scope;
  readonly board: Board;
  readonly kinds: Kinds<AnyDeviceKind>;
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  readonly trace: Trace;
  readonly host: Host | undefined;
  readonly process: MachineProcess | undefined;
  /** Board, plug-ins and objects, as they were asked for. */
  readonly asked: Pick<MachineDescription, 'board' | 'plugins' | 'objects'>;
  /** Ids in the order of realization, where that has to be the one of another machine. */
  readonly order?: readonly string[] | undefined;
}

export class Machine implements Disposable {
  readonly name: string;
  readonly board: Board;
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  /** What its devices do, as it passes. */
  readonly trace: Trace;
  /** The host that it runs on, if any. */
  readonly host: Host | undefined;
  /** The process of the host in which it runs, if any. */
  readonly process: MachineProcess | undefined;
  /** Configuration space by address, as a guest reaches it. */
  readonly config: ConfigurationSpaces;
  readonly #scope: Scope;
  readonly #kinds: Kinds<AnyDeviceKind>;
  readonly #asked: MachineParts['asked'];
  readonly #around: DeviceSurroundings;
  readonly #slots = new Slots();
  readonly #boardLife: Lifecycle;
  /** In the order of realization. */
  readonly #devices: AssembledDevice[] = [];
  #started = false;

  /** @throws ConfigError if `specs` cannot be built. Nothing is left open then but `parts`, which the caller closes. */
  constructor(parts: MachineParts, specs: readonly DeviceSpec[]) {
    const { board, clock, ledger, trace } = parts;
    this.name = parts.name;
    this.board = board;
    this.clock = clock;
    this.ledger = ledger;
    this.trace = trace;
    this.host = parts.host;
    this.process = parts.process;
    this.config = new ConfigurationSpaces(board.rootBus);
    this.#scope = parts.scope;
    this.#boardLife = this.#scope.own(new Lifecycle(board));
    this.#boardLife.realize();
    this.#kinds = parts.kinds;
    this.#asked = parts.asked;
    this.#around = {
      machine: parts.name,
      services: { clock, ledger, trace },
      system: {
        memory: board.memory,
        ports: board.ports,
        addressSpace: board.addressSpace,
        rootBus: board.rootBus,
        msi: (hi, lo, data) => board.messages.deliver(PLATFORM_REQUESTER, hi, lo, data),
      },
      pci: { host: parts.process, guestMemory: board.addressSpace },
      buses: new Map<string, PciBus>([[board.rootBus.name, board.rootBus]]),
    };
    for (const fn of board.rootBus.functions) {
      if (fn !== undefined) this.#slots.take(board.name, board.rootBus.name, fn.devfn, `"${fn.name}"`);
    }
    for (const devfn of board.reserved ?? []) this.#slots.reserve(board.rootBus.name, devfn);
    const plans = planDevices(specs, index => `devices[${index}]`, this.#surroundings());
    const { order } = parts;
    if (order !== undefined) plans.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
    for (const plan of plans) this.#add(plan);
  }

  /** System memory, as a processor sees it. */
  get memory(): AddressSpace {
    return this.board.addressSpace;
  }

  /** I/O ports, as a processor sees them. */
  get ports(): AddressSpace {
    return this.board.portSpace;
  }

  /** Interrupt messages that reached the platform. */
  get messages(): MsiLog {
    return this.board.messages;
  }

  /** Ids of the devices, in the order in which they were realized. */
  get ids(): readonly string[] {
    return this.#devices.map(each => each.name);
  }

  /**
   * Realizes all devices and resets the machine. If a device cannot be realized, the machine is closed: nothing stays open.
   * @throws ConfigError naming the device.
   */
  start(): void {
    this.#assert('assembled');
    this.#started = true;
    try {
      for (const each of this.#devices) this.#realize(each);
      this.reset();
    } catch (failure) {
      this.#closeAfter(failure);
    }
  }

  /** A system reset: board and devices go through QEMU's three phases, each phase for all before the next one. */
  reset(): void {
    this.#assert('started');
    this.#caused('reset', {}, () => {
      const newestFirst = this.#devices.map(each => each.life).reverse();
      Lifecycle.resetAll([...newestFirst, this.#boardLife]);
    });
  }

  /**
   * Hot-plugs a PCI device. Returns its id.
   * @throws ConfigError with path `device`; the machine is then as before.
   */
  plug(spec: DeviceSpec): string {
    this.#assert('started');
    const [plan] = planDevices([spec], () => 'device', this.#surroundings());
    const { name, kind, place } = plan!;
    if (place === undefined)
      throw new ConfigError('device', `"${kind.id}" is part of the board: it cannot be plugged while the machine runs`);
    return this.#caused('plug', { id: name, driver: kind.id }, () => {
      let added: AssembledDevice | undefined;
      try {
        added = this.#add(plan!);
        this.#realize(added);
        added.life.reset();
        return name;
      } catch (failure) {
        if (added !== undefined) this.#forget(added);
        this.#slots.free(place.bus, place.devfn);
        throw failure;
      }
    });
  }

  /**
   * Hot-unplugs a PCI device: it lets go of whatever stands behind it, leaves its bus and is closed.
   * @throws ConfigError if there is no such device, it is part of the board, or devices sit behind it. Whatever else is thrown,
   * the device is gone.
   */
  unplug(id: string): void {
    this.#assert('started');
    const assembled = this.#find(id);
    const { kind, place } = assembled.plan;
    if (place === undefined) throw new ConfigError(id, `"${kind.id}" is part of the board: it cannot be unplugged`);
    const behind = this.#devices.find(other => other.plan.place?.bus === id);
    if (behind !== undefined) throw new ConfigError(id, `"${behind.name}" sits behind it: unplug that first`);
    this.#caused('unplug', { id }, () => {
      try {
        assembled.life.unplug();
      } finally {
        this.#slots.free(place.bus, place.devfn);
        this.#forget(assembled);
      }
    });
  }

  /** The devices in the order in which they were asked for, those plugged since last; and whether they were given their ids. */
  get listing(): readonly { readonly id: string; readonly named: boolean }[] {
    const position = ({ plan }: AssembledDevice): number =>
      Number(/^devices\[(\d+)\]$/.exec(plan.path)?.[1] ?? Infinity);
    const sorted = this.#devices.toSorted((a, b) =>
      position(a) < position(b) ? -1 : position(a) > position(b) ? 1 : 0,
    );
    return sorted.map(({ name, plan }) => ({ id: name, named: plan.named }));
  }

  /** What devices it could have, by id of their kind. */
  get deviceKinds(): readonly AnyDeviceKind[] {
    return this.#kinds.all;
  }

  /** The device called `id`. @throws ConfigError if there is none. */
  device<D extends Device = Device>(id: string): D {
    return this.#find(id).device as D;
  }

  /** The functions that device `id` plugged, function 0 first. @throws ConfigError if there is no such device. */
  functions(id: string): readonly PciFunction[] {
    return this.#find(id).functions;
  }

  /** What it is made of now. @throws StateError if a device has options that are not plain data. */
  get description(): MachineDescription {
    const { host } = this;
    const described = host?.description ?? (this.process === undefined ? undefined : 'its host is not a simulated one');
    return {
      name: this.name,
      ...this.#asked,
      devices: this.#devices.map(describe),
      ...(described === undefined ? {} : { host: described }),
    };
  }

  /**
   * Writes the state of board and devices; RAM is not in it (see saveState). To be called between two accesses; changes nothing.
   * @throws StateError naming what cannot be saved.
   */
  save(into: StateWriter): void {
    this.#assert('started');
    this.#caused('save', {}, () => saveMachine(into, this.clock, this.board, this.#devices));
  }

  /**
   * Takes what `save` wrote of a machine of the same shape; RAM has been loaded, and this machine reset. Returns what stands again
   * outside it.
   * @throws StateError for what cannot be: what was loaded until then stays.
   */
  load(from: StateReader): readonly ResumedBy[] {
    this.#assert('started');
    return this.#caused('load', {}, () => {
      loadMachine(from, this.clock, this.board, this.#devices);
      return resumeMachine(this.#devices);
    });
  }

  /** Everything there is to see, as a tree: to print, or to compare. */
  inspect(): Inspector {
    const into = new Inspector();
    this.board.inspect(into.child('board'));
    const devices = into.child('devices');
    for (const each of this.#devices) each.inspect(devices.child(each.name));
    return into;
  }

  /**
   * Closes devices, newest first, then the board, then the process on the host.
   * @throws AggregateError of everything that failed on the way; all of it is closed nevertheless.
   */
  [Symbol.dispose](): void {
    this.#scope[Symbol.dispose]();
  }

  #add(plan: PlannedDevice): AssembledDevice {
    const assembled = new AssembledDevice(plan, this.#around);
    this.#scope.own(assembled.life);
    this.#devices.push(assembled);
    return assembled;
  }

  #realize(assembled: AssembledDevice): void {
    this.#caused('realize', { id: assembled.name, driver: assembled.plan.kind.id }, () => assembled.life.realize());
  }

  #forget(assembled: AssembledDevice): void {
    this.#scope.release(assembled.life);
    this.#devices.splice(this.#devices.indexOf(assembled), 1);
    assembled.life[Symbol.dispose]();
  }

  #find(id: string): AssembledDevice {
    const assembled = this.#devices.find(each => each.name === id);
    if (assembled !== undefined) return assembled;
    throw new ConfigError('id', `there is no device "${id}": expected one of ${this.ids.join(', ')}`);
  }

  #surroundings(): Surroundings {
    const defaultBus = this.board.rootBus.name;
    const buses = [...this.#around.buses.keys()];
    return { kinds: this.#kinds, slots: this.#slots, defaultBus, buses, names: new Set([defaultBus, ...this.ids]) };
  }

  /** What the machine does by itself, as the cause of what follows from it. */
  #caused<T>(kind: string, data: Record<string, unknown>, act: () => T): T {
    if (!this.ledger.on) return act();
    const event = this.ledger.open(this.name, kind, data);
    try {
      return act();
    } finally {
      this.ledger.close(event);
    }
  }

  #closeAfter(failure: unknown): never {
    try {
      this[Symbol.dispose]();
    } catch (closing) {
      throw new AggregateError([failure, closing], `${this.name} could not start, and not be closed either`);
    }
    throw failure;
  }

  /** Its host closes it too. */
  #assert(expected: 'assembled' | 'started'): void {
    const state = this.#scope.closed ? 'closed' : this.#started ? 'started' : 'assembled';
    if (state !== expected) throw new Error(`${this.name} is ${state}, not ${expected}`);
  }
}

/** With its id and place, which it may have been given here. */
function describe({ name, plan }: AssembledDevice): DescribedDevice {
  const { kind, config, place } = plan;
  const at = place === undefined ? {} : { bus: place.bus, addr: formatDevfn(place.devfn) };
  return { driver: kind.id, options: { id: name, ...at, ...plainOptions(`devices.${name}`, config) } };
}
