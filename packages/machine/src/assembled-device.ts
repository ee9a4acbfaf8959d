/** One device of a machine from its creation to its end, with what it plugged into the machine's buses. */
import {
  ConfigError,
  Lifecycle,
  type Device,
  type Inspector,
  type ResetPhase,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import type { DeviceServices, PciBus, PciDeviceContext, PciFunction, SystemDeviceContext } from '@remora/pci';
import { located } from './config-error.js';
import type { PlannedDevice } from './plan.js';

/** What a machine offers its devices. */
export interface DeviceSurroundings {
  /** The machine's name. */
  readonly machine: string;
  readonly system: Omit<SystemDeviceContext, keyof DeviceServices>;
  readonly pci: Omit<PciDeviceContext, keyof DeviceServices | 'plug'>;
  readonly services: Omit<DeviceServices, 'name'>;
  /** Buses by name; a bridge's bus is added while it is plugged. */
  readonly buses: Map<string, PciBus>;
}

export class AssembledDevice implements Device {
  readonly plan: PlannedDevice;
  readonly device: Device;
  /** Asserts that the device's methods are called in legal order. */
  readonly life: Lifecycle;
  readonly #around: DeviceSurroundings;
  /** What the device calls itself: unique on a host that several machines share. */
  readonly #fullName: string;
  readonly #functions: PciFunction[] = [];

  /** Creates the device. @throws ConfigError for options that do not go together. */
  constructor(plan: PlannedDevice, around: DeviceSurroundings) {
    this.plan = plan;
    this.#around = around;
    this.#fullName = `${around.machine}/${plan.name}`;
    this.device = this.#located(() => this.#create());
    this.life = new Lifecycle(this);
  }

  get name(): string {
    return this.plan.name;
  }

  /** The functions that it plugged, function 0 first. */
  get functions(): readonly PciFunction[] {
    return this.#functions;
  }

  /** @throws ConfigError if the device cannot work here; it is off its buses then. */
  realize(): void {
    try {
      this.#located(() => this.device.realize?.());
    } catch (failure) {
      this.#leaveBuses();
      throw failure;
    }
  }

  reset(phase: ResetPhase): void {
    this.device.reset?.(phase);
  }

  /** Whatever it throws, the device is off its buses. */
  unplug(): void {
    try {
      this.device.unplug?.();
    } finally {
      this.#leaveBuses();
    }
  }

  inspect(into: Inspector): void {
    into.value('driver', this.plan.kind.id);
    into.value('config', this.plan.config);
    if (this.life.state === 'realized') this.device.inspect?.(into);
  }

  /** @throws StateError if it cannot be saved. */
  save(into: StateWriter): void {
    const { device } = this;
    if (device.save === undefined || device.load === undefined)
      throw into.refusal(`"${this.plan.kind.id}" has no save and load: a machine with it cannot be saved`);
    into.list('functions', this.#functions, (each, fn) => {
      fn.save(each);
    });
    device.save(into.child('state', device.stateVersion ?? 1));
  }

  /** Configuration spaces, from the section that `save` wrote. */
  loadFunctions(from: StateReader): void {
    const functions = from.list('functions');
    if (functions.length !== this.#functions.length)
      throw from.problem('functions', `${functions.length} found, ${this.#functions.length} expected`);
    for (const [index, fn] of this.#functions.entries()) fn.load(functions[index]!);
  }

  /** The device's own state, from the same section. */
  load(from: StateReader): void {
    const { device } = this;
    device.load?.(from.child('state', device.stateVersion ?? 1));
  }

  [Symbol.dispose](): void {
    try {
      this.device[Symbol.dispose]();
    } finally {
      this.#leaveBuses();
    }
  }

  #located<T>(build: () => T): T {
    return located(this.plan.path, [this.plan.kind.id, this.#fullName, this.plan.name], build);
  }

  #create(): Device {
    const { kind, config } = this.plan;
    const services: DeviceServices = { ...this.#around.services, name: this.#fullName };
    if (kind.bus === 'system') return kind.create({ ...this.#around.system, ...services }, config);
    return kind.create({ ...this.#around.pci, ...services, plug: fn => this.#plug(fn) }, config);
  }

  /** The first function goes to the planned place, further ones to the functions after it. */
  #plug(fn: PciFunction): void {
    const { name, place, path } = this.plan;
    const bus = this.#around.buses.get(place!.bus);
    if (bus === undefined) throw new ConfigError(`${path}.bus`, `"${place!.bus}" is not a bridge`);
    try {
      bus.plug(fn, place!.devfn + this.#functions.length);
    } catch (cause) {
      if (!(cause instanceof ConfigError)) throw cause;
      throw new ConfigError(`${path}.addr`, cause.message.slice(cause.path.length + 2), { cause });
    }
    this.#functions.push(fn);
    if (fn.secondary !== undefined) this.#around.buses.set(name, fn.secondary);
  }

  /** Most devices leave by themselves; none may stay. */
  #leaveBuses(): void {
    for (let fn = this.#functions.pop(); fn !== undefined; fn = this.#functions.pop()) {
      if (fn.secondary !== undefined) this.#around.buses.delete(this.name);
      fn.bus?.unplug(fn);
    }
  }
}
