/** A machine whose devices are served to a guest that runs elsewhere: assembled like any other, on a board whose memory is that guest's. */
import type { Duplex } from 'node:stream';
import { ConfigError, definePlugin, type Plugin, RESET_PHASES } from '@remora/core';
import type { Host, MachineOptions } from '@remora/machine';
import { createMachine, type Machine } from '@remora/machine/assembly';
import { BoardKinds, type PciIdentity } from '@remora/pci';
import {
  Descriptors,
  DeviceServer,
  GuestMemory,
  type InterruptRoute,
  listen,
  needsDescriptors,
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
  /** Clients are asked for each transfer, instead; see GuestMemoryOptions. All devices must do without descriptors. */
  readonly messages?: boolean;
  /**
   * All clients pass descriptors: of the file that memory is in, so that none needs to be named, and for interrupts. Default: only those of
   * devices that cannot do without, as they have MSI-X or INTx and no MSI. Needs koffi.
   */
  readonly descriptors?: boolean;
  /**
   * The host that the machine runs on, and how many bytes of the process' memory are the guest's, from address 0 on: the first piece that
   * it maps. Default: none; memory is what the clients map.
   */
  readonly on?: { readonly host: Host; readonly memory: number } & Pick<MachineOptions, 'interpose' | 'objects'>;
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
  /** Whether its clients are to pass descriptors. */
  readonly descriptors: boolean;
  /** Listens for clients at the socket `path`, until disposed of. @throws ConfigError if that cannot be. */
  listen(path: string): Promise<Disposable>;
}

export class ServedMachine implements Disposable {
  readonly machine: Machine;
  readonly memory: GuestMemory;
  /** In the order in which the devices were asked for; bridges are not served. */
  readonly parts: readonly ServedPart[];
  readonly #open: Disposable[] = [];
  /** Servers whose clients get interrupt pins. */
  readonly #pinned: DeviceServer[] = [];
  #descriptors: Descriptors | undefined;

  /** Everything runs; nobody is connected. @throws ConfigError for what cannot be built, or served. */
  constructor(options: ServedMachineOptions) {
    const { plugins, devices, memory: file, messages = false, on, report = () => undefined } = options;
    if (messages && options.descriptors === true)
      throw new ConfigError('descriptors', 'memory by message and by descriptor: expected one of the two');
    this.memory = new GuestMemory({ file, messages, report });
    const board = servedBoardKind(on?.memory ?? this.memory, () => this.#pinChanged());
    const ownBoard = definePlugin({
      name: '@remora/tools/serve',
      api: 1,
      module: new ContainerModule(({ bind }) => {
        bind(BoardKinds).toConstantValue(board);
      }),
    });
    this.machine = createMachine(on?.host, {
      board: board.id,
      plugins: [ownBoard, ...plugins],
      devices,
      ...(on?.interpose === undefined ? {} : { interpose: on.interpose }),
      objects: on?.objects ?? [],
    });
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
    throw this.#notServed(id);
  }

  /** As the part's. @throws ConfigError if `id` is not served, or nobody can listen there. */
  listen(id: string, path: string): Promise<Disposable> {
    const part = this.parts.find(each => each.id === id);
    if (part !== undefined) return part.listen(path);
    throw this.#notServed(id);
  }

  /** Ends all connections, then the machine. */
  [Symbol.dispose](): void {
    for (const each of this.#open.reverse()) each[Symbol.dispose]();
    this.#open.length = 0;
  }

  #notServed(id: string): ConfigError {
    return new ConfigError(
      'id',
      `"${id}" is not served: expected one of ${this.parts.map(each => each.id).join(', ')}`,
    );
  }

  /** A pin is a level, so it does not matter whose it was. */
  #pinChanged(): void {
    for (const server of this.#pinned) server.pinChanged();
  }

  /** `why` its clients are to pass descriptors, and at which path that was asked for; undefined: they are not. */
  #part(
    id: string,
    server: DeviceServer,
    why: { readonly path: string; readonly text: string } | undefined,
  ): ServedPart {
    const take = (stream: Duplex): void => server.accept(stream);
    const descriptors = why !== undefined;
    if (!descriptors) return { id, server, descriptors, listen: socket => listen(socket, take) };
    this.#descriptors ??= new Descriptors(why.path, why.text);
    const passing = this.#descriptors;
    this.#pinned.push(server);
    return { id, server, descriptors, listen: socket => passing.listen(socket, take) };
  }

  #serve(options: ServedMachineOptions, how: ConstructorParameters<typeof DeviceServer>[1]): ServedPart[] {
    const { machine } = this;
    const parts: ServedPart[] = [];
    const routes: InterruptRoute[] = [];
    const asked = options.descriptors === true ? { path: 'descriptors', text: 'to be passed descriptors' } : undefined;
    for (const [index, { id }] of machine.listing.entries()) {
      const path = `devices[${index}]`;
      const [fn, second] = machine.functions(id);
      const device = machine.device(id);
      if (fn === undefined) {
        const server = this.#serveIommu(path, id, options.iommu, how);
        parts.push(this.#part(id, server, asked));
        routes.push({ from: 'platform', to: server });
        continue;
      }
      if (fn.secondary !== undefined) continue;
      if (second !== undefined)
        throw new ConfigError(path, `"${id}" has several functions: expected a device with one`);
      const kind = needsDescriptors(fn);
      if (kind !== undefined && options.messages === true)
        throw new ConfigError(
          path,
          `"${id}" has ${kind}, which takes event descriptors: expected MSI, as memory is by message`,
        );
      const why = asked ?? (kind && { path, text: `${kind}, which takes event descriptors,` });
      const server = new DeviceServer(servedFunction(path, fn, device, { descriptors: why !== undefined }), how);
      parts.push(this.#part(id, server, why));
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
