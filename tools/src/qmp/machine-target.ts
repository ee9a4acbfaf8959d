/** A machine as what a QMP server controls. Any number of clients may share it. */
import { ConfigError, Inspector, type AddressSpace } from '@remora/core';
import type { Machine } from '@remora/machine';
import { type AnyDeviceKind, formatDevfn, parseBdf, type PciBus, type PciFunction } from '@remora/pci';
import {
  listTypes,
  ObjectStore,
  QmpError,
  type DeviceBus,
  type ProcessorInfo,
  type QmpEvent,
  type QmpTarget,
  type QomNode,
  type QomType,
  type RunState,
  type ShutdownCause,
} from '@remora/qmp';
import { MACHINES, VERSION } from './identity.js';
import { DeviceNames } from './names.js';
import { shortName, withoutHotplug } from './device-object.js';
import { objectTree, ownerOf, ramObject, SYSTEM_BUS, systemBus, type TreeParts } from './object-tree.js';
import { typesOf } from './types.js';

export interface MachineTargetOptions {
  /** `-name`. */
  readonly name?: string | undefined;
  /** Of which version of QEMU the machine is: `10.2` of `pc-q35-10.2`. */
  readonly machineVersion?: string | undefined;
  /** `-S`: the machine waits for `cont`. */
  readonly paused?: boolean;
  /** `-smp`; they are shown, and do nothing. */
  readonly processors?: number;
  /** `-object`. */
  readonly objects?: ObjectStore;
  /** A client or a signal asked for the end. Called after the client has its reply. */
  readonly onQuit: (cause: ShutdownCause) => void;
}

export class MachineTarget implements QmpTarget {
  readonly version = VERSION;
  readonly machines = MACHINES;
  readonly name: string | undefined;
  readonly processors: readonly ProcessorInfo[];
  readonly types: readonly QomType[];
  readonly objects: ObjectStore;
  readonly #machine: Machine | undefined;
  readonly #names: DeviceNames | undefined;
  readonly #hotplugged = new Set<string>();
  readonly #version: string | undefined;
  readonly #onQuit: MachineTargetOptions['onQuit'];
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #state: RunState;

  /** `machine` has been started; undefined is the machine `none`. */
  constructor(machine: Machine | undefined, options: MachineTargetOptions) {
    const { processors = machine === undefined ? 0 : 1 } = options;
    this.#machine = machine;
    this.#names = machine === undefined ? undefined : new DeviceNames(machine);
    this.#version = options.machineVersion;
    this.#onQuit = options.onQuit;
    this.#state = options.paused === true ? 'prelaunch' : 'running';
    this.name = options.name;
    this.objects = options.objects ?? new ObjectStore();
    if (machine !== undefined) this.objects.provide('pc.ram', ramObject(machine));
    this.types = typesOf(machine?.deviceKinds ?? []);
    this.processors = Array.from({ length: processors }, (_, index) => ({
      path: `/machine/unattached/device[${index}]`,
      thread: process.pid,
    }));
  }

  get state(): RunState {
    return this.#state;
  }

  get rootBuses(): readonly PciBus[] {
    return this.#machine === undefined ? [] : [this.#machine.board.rootBus];
  }

  get addressSpaces(): readonly AddressSpace[] {
    return this.#machine === undefined ? [] : [this.#machine.memory, this.#machine.ports];
  }

  tree(): QomNode {
    return objectTree(this.#parts);
  }

  mainBus(): DeviceBus | undefined {
    return systemBus(this.#parts);
  }

  idOf(fn: PciFunction): string {
    const key = this.#machine === undefined ? undefined : ownerOf(this.#machine, fn);
    return key === undefined ? '' : this.#names!.idOf(key);
  }

  describeIommus(): string {
    const machine = this.#machine;
    const found = machine?.description.devices.flatMap(({ driver, options }) => {
      const kind = machine.deviceKinds.find(each => each.id === driver);
      if (kind?.provides?.includes('iommu') !== true) return [];
      const key = String(options['id']);
      const state = new Inspector();
      machine.device(key).inspect?.(state);
      return `${driver}, id "${this.#names!.idOf(key)}"\n${String(state).replace(/^/gm, '  ')}`;
    });
    return found === undefined || found.length === 0 ? 'no IOMMU' : found.join('\n');
  }

  resume(): void {
    if (this.#state !== 'prelaunch' && this.#state !== 'paused') return;
    this.#state = 'running';
    this.#tell({ event: 'RESUME' });
  }

  stop(): void {
    if (this.#state !== 'running') return;
    this.#state = 'paused';
    this.#tell({ event: 'STOP' });
  }

  reset(reason: ShutdownCause): void {
    this.#machine?.reset();
    this.#tell({ event: 'RESET', data: { guest: reason.startsWith('guest-'), reason } });
  }

  quit(reason: ShutdownCause): void {
    if (this.#state === 'shutdown') return;
    this.#state = 'shutdown';
    this.#tell({ event: 'SHUTDOWN', data: { guest: reason.startsWith('guest-'), reason } });
    setImmediate(() => this.#onQuit(reason));
  }

  addDevice(driver: string, options: Readonly<Record<string, unknown>>): void {
    const machine = this.#plugInto(driver);
    const { id, bus: busName, addr } = options as { id?: string; bus?: string; addr?: unknown };
    const kind = this.#kind(machine, driver);
    const bus = this.#bus(machine, driver, busName ?? machine.board.rootBus.name);
    if (kind.bus !== 'pci') throw new QmpError(`Device '${driver}' does not support hotplugging`);
    if (bus.parent === undefined) throw new QmpError(withoutHotplug(shortName(bus)));
    if (id !== undefined && machine.ids.includes(id)) throw new QmpError(`Duplicate device ID '${id}'`);
    const unknown = Object.keys(options).find(name => !PLACEMENT.includes(name) && !kind.properties.has(name));
    if (unknown !== undefined) throw new QmpError(`Property '${driver}.${unknown}' not found`);
    const place = typeof addr === 'number' ? { addr: formatDevfn(addr) } : {};
    checkVisible(bus, place.addr ?? addr);
    const key = plainly(() => machine.plug({ driver, options: { ...options, ...place } }));
    this.#hotplugged.add(key);
    if (id === undefined) this.#names!.addNameless(key);
  }

  /** What sits behind a bridge goes first, the deepest at the beginning. */
  removeDevice(key: string): void {
    const machine = this.#plugInto(key);
    const below = machine
      .functions(key)
      .flatMap(({ secondary }) => (secondary === undefined ? [] : [...secondary.walk()]));
    const behind = new Set(below.map(fn => ownerOf(machine, fn)!));
    for (const each of [...behind].reverse()) this.#unplug(machine, each);
    this.#unplug(machine, key);
  }

  #unplug(machine: Machine, key: string): void {
    const names = this.#names!;
    const id = names.idOf(key);
    const data = { ...(id === '' ? {} : { device: id }), path: names.pathOf(key) };
    try {
      plainly(() => machine.unplug(key));
    } finally {
      if (!machine.ids.includes(key)) {
        this.#hotplugged.delete(key);
        names.forget(key);
        this.#tell({ event: 'DEVICE_DELETED', data });
      }
    }
  }

  subscribe(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get #parts(): TreeParts {
    return {
      machine: this.#machine,
      version: this.#version,
      names: this.#names,
      hotplugged: this.#hotplugged,
      processors: this.processors.length,
      objects: this.objects,
    };
  }

  /** @throws QmpError if there is no such kind of device. */
  #kind(machine: Machine, driver: string): AnyDeviceKind {
    const kind = machine.deviceKinds.find(each => each.id === driver || each.aliases?.includes(driver) === true);
    if (kind !== undefined) return kind;
    const type = listTypes(this.types, 'device', true).find(({ name }) => name === driver);
    if (type === undefined) throw new QmpError(`'${driver}' is not a valid device model name`);
    const expected = type.abstract === true ? 'non-abstract' : 'pluggable';
    throw new QmpError(`Parameter 'driver' expects a ${expected} device type`);
  }

  /** The PCI bus called `name`: the root's, or that of a bridge. @throws QmpError if there is none. */
  #bus(machine: Machine, driver: string, name: string): PciBus {
    if (name === SYSTEM_BUS) throw new QmpError(`Device '${driver}' can't go on System bus`);
    const { rootBus } = machine.board;
    const functions = machine.ids.includes(name) ? machine.functions(name) : [];
    const bus = name === rootBus.name ? rootBus : functions.find(({ secondary }) => secondary !== undefined)?.secondary;
    if (bus === undefined) throw new QmpError(`Bus '${name}' not found`);
    return bus;
  }

  #plugInto(what: string): Machine {
    if (this.#machine === undefined) throw new QmpError(`No bus found for device '${what}'`);
    return this.#machine;
  }

  #tell(event: QmpEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}

/** Options of every PCI device. */
const PLACEMENT: readonly string[] = ['id', 'bus', 'addr'];

/**
 * A guest looks for further functions once, when it finds function 0; and a link has no second slot.
 * @throws QmpError if what comes to `addr` comes too late for that.
 */
function checkVisible(bus: PciBus, addr: unknown): void {
  const link = bus.parent?.ownsLink === true;
  const devfn = typeof addr === 'string' ? plainly(() => parseBdf('addr', addr)).devfn : 0;
  const first = bus.functions[link ? 0 : devfn & ~7];
  if (first === undefined || (!link && devfn === first.devfn)) return;
  throw new QmpError(
    `bus '${shortName(bus)}' has function 0 of that slot already: a guest would not see what comes now`,
  );
}

/** The user of a monitor gave one device: where in it a mistake is, without the path of a machine's description. */
function plainly<T>(act: () => T): T {
  try {
    return act();
  } catch (failure) {
    if (!(failure instanceof ConfigError)) throw failure;
    throw new QmpError(failure.message.replace(/^device\.?/, '').replace(/^: /, ''), 'GenericError', {
      cause: failure,
    });
  }
}
