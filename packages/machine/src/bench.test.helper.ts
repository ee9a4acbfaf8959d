/** A board and two kinds of device that write down what happens to them. */
import {
  AddressSpace,
  bool,
  ConfigError,
  definePlugin,
  integer,
  properties,
  Region,
  size,
  string,
  WHOLE_SPACE,
} from '@remora/core';
import type { Device, Plugin, ResetPhase } from '@remora/core';
import { BoardKinds, bridgeKinds, DeviceKinds, MsiLog, PciBus, PciFunction, pciSetupIommu } from '@remora/pci';
import type { Board, BoardKind, BoardServices, DeviceKind, PciDeviceContext, SystemDeviceContext } from '@remora/pci';
import { ContainerModule } from 'inversify';

export const MIB = 0x10_0000;
const IDENTITY = { vendor: 0x1af4, device: 0x1000, classCode: 0xff0000 };

class BenchBoard implements Board {
  readonly name: string;
  readonly ram;
  readonly memory = Region.container('system', WHOLE_SPACE);
  readonly ports = Region.container('io', 0x1_0000);
  readonly addressSpace = new AddressSpace('memory', this.memory);
  readonly portSpace = new AddressSpace('io', this.ports);
  readonly messages = new MsiLog();
  readonly rootBus: PciBus;
  readonly #log: string[];

  constructor({ name, ram }: BoardServices, log: string[]) {
    this.name = name;
    this.ram = ram;
    this.#log = log;
    this.memory.add(0, Region.ram('ram', ram));
    const { memory, ports, addressSpace } = this;
    this.rootBus = PciBus.root('pcie.0', { memory, ports, addressSpace, msi: this.messages.deliver });
    this.rootBus.plug(new PciFunction('chipset', IDENTITY), 0);
  }

  firmwareTables(): [] {
    return [];
  }

  reset(phase: ResetPhase): void {
    this.#log.push(`board ${phase}`);
  }

  inspect(): void {}

  [Symbol.dispose](): void {
    this.#log.push('board closed');
  }
}

const gadgetProperties = properties(
  {
    level: integer({ min: 0, max: 9 }, 1, 'how high'),
    loud: bool(false, 'whether it is loud'),
    fail: string(undefined, 'where it fails: create, realize, unplug, dispose'),
  },
  { height: 'level' },
);

interface GadgetConfig {
  readonly level: number;
  readonly loud: boolean;
  readonly fail: string | undefined;
}

class Gadget implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #context: PciDeviceContext;
  readonly #config: GadgetConfig;
  readonly #log: string[];

  constructor(context: PciDeviceContext, config: GadgetConfig, log: string[]) {
    this.name = context.name;
    this.#context = context;
    this.#config = config;
    this.#log = log;
    this.fn = new PciFunction(context.name, IDENTITY);
    if (config.fail === 'create') throw new ConfigError(`${context.name}.level`, 'too high for this gadget');
  }

  realize(): void {
    this.#context.plug(this.fn);
    this.#say(`at ${this.fn.bdf}`);
    if (this.#config.fail === 'realize') throw new ConfigError('level', 'too high for this host');
  }

  reset(phase: ResetPhase): void {
    this.#say(phase);
  }

  unplug(): void {
    this.#say('unplug');
    if (this.#config.fail === 'unplug') throw new Error(`${this.name} is stuck`);
  }

  [Symbol.dispose](): void {
    this.#say('closed');
    if (this.#config.fail === 'dispose') throw new Error(`${this.name} would not close`);
  }

  #say(what: string): void {
    this.#log.push(`${this.name} ${what}`);
  }
}

class Unit implements Device {
  readonly name: string;
  readonly #context: SystemDeviceContext;
  readonly #log: string[];
  #registration: Disposable | undefined;

  constructor(context: SystemDeviceContext, log: string[]) {
    this.name = context.name;
    this.#context = context;
    this.#log = log;
  }

  realize(): void {
    this.#log.push(`${this.name} realized`);
    const { addressSpace, rootBus } = this.#context;
    this.#registration = pciSetupIommu(rootBus, { wantsNesting: false, addressSpaceFor: () => addressSpace });
  }

  [Symbol.dispose](): void {
    this.#log.push(`${this.name} closed`);
    this.#registration?.[Symbol.dispose]();
  }
}

export interface Bench {
  readonly plugin: Plugin;
  /** What happened, in order. */
  readonly log: string[];
}

/** A plug-in with the board `bench` and the devices `gadget` and `unit` (an IOMMU). */
export function bench(): Bench {
  const log: string[] = [];
  const board: BoardKind<{ memory: number }> = {
    id: 'bench',
    properties: properties({ memory: size({ min: 4096, multipleOf: 4096 }, MIB, 'RAM') }),
    ramBytes: config => config.memory,
    create: services => new BenchBoard(services, log),
  };
  const gadget: DeviceKind<GadgetConfig, 'pci'> = {
    id: 'gadget',
    aliases: ['gizmo'],
    bus: 'pci',
    properties: gadgetProperties,
    after: ['iommu'],
    create: (context, config) => new Gadget(context, config, log),
  };
  const unit: DeviceKind<object, 'system'> = {
    id: 'unit',
    bus: 'system',
    properties: properties({}),
    provides: ['iommu'],
    create: context => new Unit(context, log),
  };
  const module = new ContainerModule(({ bind }) => {
    bind(BoardKinds).toConstantValue(board);
    bind(DeviceKinds).toConstantValue(gadget);
    bind(DeviceKinds).toConstantValue(unit);
    for (const kind of bridgeKinds) bind(DeviceKinds).toConstantValue(kind);
  });
  return { plugin: definePlugin({ name: '@test/bench', api: 1, module }), log };
}
