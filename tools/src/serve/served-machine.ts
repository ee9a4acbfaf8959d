/** A machine whose devices are served to a guest that runs elsewhere: assembled like any other, on a board whose memory is that guest's. */
import { ConfigError, definePlugin, type Plugin, RESET_PHASES } from '@remora/core';
import { createMachine, type Machine } from '@remora/machine/assembly';
import { BoardKinds, type PciIdentity } from '@remora/pci';
import {
  DeviceServer,
  GuestMemory,
  type InterruptRoute,
  RealTime,
  routeInterrupts,
  servedBoardKind,
  servedFunction,
  servedIommuFunction,
} from '@remora/vfio-user';
import { ContainerModule } from 'inversify';

/** What parseSpec takes. */
type Devices = NonNullable<Parameters<typeof createMachine>[1]['devices']>;

/** How a vIOMMU of the machine is served. */
export interface ServedIommu {
  /** Of the function whose BAR 0 is the register page. */
  readonly identity: PciIdentity;
  /** Of the register page. */
  readonly bytes: number;
  /** The first read of these bytes of it hides the function; see servedIommuFunction. */
  readonly hideAfter?: { readonly start: number; readonly end: number };
}

export interface ServedMachineOptions {
  /** Bring the devices. */
  readonly plugins: readonly Plugin[];
  /** As for createMachine. */
  readonly devices: Devices;
  /** The file that the guest's memory is in; without it devices reach nothing. */
  readonly memory?: string | undefined;
  /** The machine may have a vIOMMU, which is then served as well. */
  readonly iommu?: ServedIommu;
  /** Takes what the person who serves should know, a line at a time. */
  readonly report?: (text: string) => void;
}

/** One device, and who serves it. */
export interface ServedPart {
  /** The device's id. */
  readonly id: string;
  readonly server: DeviceServer;
}

export class ServedMachine implements Disposable {
  readonly machine: Machine;
  readonly memory: GuestMemory;
  /** In the order in which the devices were asked for; bridges are not served. */
  readonly parts: readonly ServedPart[];
  readonly #open: Disposable[] = [];

  /** Everything runs; nobody is connected. @throws ConfigError for what cannot be built, or served. */
  constructor(options: ServedMachineOptions) {
    const { plugins, devices, memory: file, report = () => undefined } = options;
    this.memory = new GuestMemory({ file, report });
    const board = servedBoardKind(this.memory);
    const ownBoard = definePlugin({
      name: '@remora/tools/serve',
      api: 1,
      module: new ContainerModule(({ bind }) => {
        bind(BoardKinds).toConstantValue(board);
      }),
    });
    this.machine = createMachine(undefined, { board: board.id, plugins: [ownBoard, ...plugins], devices });
    this.#open.push(this.memory, this.machine);
    try {
      this.machine.start();
      const failed = (failure: unknown): void =>
        report(`a timer failed: ${(failure as Error).stack ?? String(failure)}`);
      const time = new RealTime(this.machine.clock, failed);
      this.#open.push(time);
      this.parts = this.#serve(options, { memory: this.memory, time, report });
    } catch (failure) {
      this[Symbol.dispose]();
      throw failure;
    }
  }

  /** Who serves device `id`. @throws ConfigError if it is not served. */
  server(id: string): DeviceServer {
    const part = this.parts.find(each => each.id === id);
    if (part !== undefined) return part.server;
    throw new ConfigError('id', `"${id}" is not served: expected one of ${this.parts.map(each => each.id).join(', ')}`);
  }

  /** Ends all connections, then the machine. */
  [Symbol.dispose](): void {
    for (const each of this.#open.reverse()) each[Symbol.dispose]();
    this.#open.length = 0;
  }

  #serve(options: ServedMachineOptions, how: ConstructorParameters<typeof DeviceServer>[1]): ServedPart[] {
    const { machine } = this;
    const parts: ServedPart[] = [];
    const routes: InterruptRoute[] = [];
    for (const [index, { id }] of machine.listing.entries()) {
      const path = `devices[${index}]`;
      const [fn, second] = machine.functions(id);
      const device = machine.device(id);
      if (fn === undefined) {
        const server = this.#serveIommu(path, id, options.iommu, how);
        parts.push({ id, server });
        routes.push({ from: 'platform', to: server });
        continue;
      }
      if (fn.secondary !== undefined) continue;
      if (second !== undefined)
        throw new ConfigError(path, `"${id}" has several functions: expected a device with one`);
      const server = new DeviceServer(servedFunction(path, fn, device), how);
      parts.push({ id, server });
      routes.push({ from: fn, to: server });
    }
    this.#open.push(...parts.map(each => each.server), routeInterrupts(machine.messages, routes));
    return parts;
  }

  #serveIommu(
    path: string,
    id: string,
    served: ServedIommu | undefined,
    how: ConstructorParameters<typeof DeviceServer>[1],
  ): DeviceServer {
    const { machine } = this;
    const facts = machine.board.rootBus.iommu?.facts;
    if (served === undefined || facts === undefined)
      throw new ConfigError(path, `"${id}" is no PCI device: only those can be served`);
    const { identity, bytes, hideAfter } = served;
    const device = machine.device(id);
    const unit = servedIommuFunction({
      name: id,
      identity,
      space: machine.memory,
      base: facts.registerBase,
      size: bytes,
      ...(hideAfter === undefined ? {} : { hideAfter }),
      reset: () => {
        for (const phase of RESET_PHASES) device.reset?.(phase);
      },
    });
    return new DeviceServer(unit, how);
  }
}
