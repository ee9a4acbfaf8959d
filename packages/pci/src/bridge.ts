/**
 * Bridges: a type 1 function with a bus below. The windows of its registers show the secondary bus's regions in the primary's;
 * bus numbers are whatever software last wrote (PCI-to-PCI Bridge Architecture 1.2, chapter 3).
 */
import { memoryBatch, Region } from '@remora/core';
import { PciBus } from './bus.js';
import { PciFunction } from './function.js';
import { PHYSICAL_LIMIT } from './bars.js';
import { BridgeControl, Capability, Command, Config, ExpressType, Status } from './registers.js';

export type BridgeKind = 'root-port' | 'upstream-port' | 'downstream-port' | 'pcie-to-pci' | 'pci';

export interface BridgeOptions {
  readonly vendor: number;
  readonly device: number;
  /** Port number in the PCI Express capability. */
  readonly port?: number;
  /** 1 .. 4 for INTA .. INTD; 0 (default): none. The bridge itself never interrupts: it has nothing to tell. */
  readonly interruptPin?: number;
  /** What it says of its subsystem, which type 1 headers have no registers for (PCI-to-PCI Bridge Architecture 1.2, 3.2.5.13). */
  readonly subsystem?: { readonly vendor: number; readonly device: number };
  /** MSI-X vectors; their table is in BAR 0. None by default. */
  readonly vectors?: number;
}

const BRIDGE_CLASS = 0x060400;
const EXPRESS_TYPE: Record<Exclude<BridgeKind, 'pci'>, ExpressType> = {
  'root-port': ExpressType.ROOT_PORT,
  'upstream-port': ExpressType.UPSTREAM_PORT,
  'downstream-port': ExpressType.DOWNSTREAM_PORT,
  'pcie-to-pci': ExpressType.PCI_BRIDGE,
};

/** What a window's registers say: `[base, base + size)`, shown only if it is not empty and the COMMAND bit is set. */
class Window {
  readonly #name: string;
  readonly #target: (bus: PciBus) => Region;
  #shown:
    { readonly container: Region; readonly alias: Region; readonly base: number; readonly size: number } | undefined;

  constructor(name: string, target: (bus: PciBus) => Region) {
    this.#name = name;
    this.#target = target;
  }

  show(primary: PciBus | undefined, secondary: PciBus, base: number, last: number): void {
    const end = Math.min(last, PHYSICAL_LIMIT);
    const container = primary === undefined || end <= base ? undefined : this.#target(primary);
    const shown = this.#shown;
    if (shown?.container === container && (shown === undefined || (shown.base === base && shown.size === end - base)))
      return;
    if (shown !== undefined) shown.container.remove(shown.alias);
    this.#shown = undefined;
    if (container === undefined) return;
    const alias = Region.alias(this.#name, this.#target(secondary), base, end - base);
    container.add(base, alias, 1);
    this.#shown = { container, alias, base, size: end - base };
  }
}

export class PciBridge {
  readonly fn: PciFunction;
  readonly secondary: PciBus;
  readonly kind: BridgeKind;
  readonly #memory: Window;
  readonly #prefetchable: Window;
  readonly #ports: Window;
  #inReset = false;

  constructor(name: string, kind: BridgeKind, options: BridgeOptions) {
    this.kind = kind;
    this.fn = new PciFunction(name, {
      vendor: options.vendor,
      device: options.device,
      classCode: BRIDGE_CLASS,
      headerType: 1,
      interruptPin: options.interruptPin ?? 0,
      pcie: kind !== 'pci',
    });
    const memory = Region.container(`${name}.memory`, 2 ** 64);
    const ports = Region.container(`${name}.ports`, 0x1_0000);
    this.secondary = PciBus.below(name, this.fn, kind !== 'pci' && kind !== 'pcie-to-pci', memory, ports);
    this.fn.secondary = this.secondary;
    this.#memory = new Window(`${name}.memory-window`, bus => bus.memory);
    this.#prefetchable = new Window(`${name}.prefetchable-window`, bus => bus.memory);
    this.#ports = new Window(`${name}.port-window`, bus => bus.ports);
    this.#defineHeader();
    const { subsystem, vectors } = options;
    if (subsystem !== undefined)
      this.fn.addCapability(Capability.SUBSYSTEM, subsystemBody(subsystem.vendor, subsystem.device));
    if (vectors !== undefined) this.fn.enableMsix(vectors, 0);
    if (kind !== 'pci') this.fn.enableExpress(EXPRESS_TYPE[kind], { port: options.port ?? 0 });
    const update = (): void => this.#update();
    this.fn.config.onWrite({ start: Config.COMMAND, end: Config.COMMAND + 2 }, update);
    this.fn.config.onWrite({ start: Config.IO_BASE, end: Config.CAPABILITIES }, update);
    this.fn.config.onWrite({ start: Config.BRIDGE_CONTROL, end: Config.BRIDGE_CONTROL + 2 }, () => this.#control());
    this.fn.onMove(update);
    this.fn.onLoad(() => {
      update();
      this.#inReset = this.#resetAsked;
    });
  }

  /** Bases above limits: every window closed after reset. */
  #defineHeader(): void {
    const { config } = this.fn;
    for (const register of [Config.PRIMARY_BUS, Config.SECONDARY_BUS, Config.SUBORDINATE_BUS]) {
      config.define(register, 1, 0, 0xff);
    }
    config.define(Config.IO_BASE, 1, 0xf0, 0xf0);
    config.define(Config.IO_LIMIT, 1, 0x00, 0xf0);
    config.define(Config.SECONDARY_STATUS, 2, 0, 0, Status.ERRORS);
    config.define(Config.MEMORY_BASE, 2, 0xfff0, 0xfff0);
    config.define(Config.MEMORY_LIMIT, 2, 0x0000, 0xfff0);
    config.define(Config.PREFETCH_BASE, 2, 0xfff1, 0xfff0);
    config.define(Config.PREFETCH_LIMIT, 2, 0x0001, 0xfff0);
    config.define(Config.PREFETCH_BASE_UPPER, 4, 0, -1);
    config.define(Config.PREFETCH_LIMIT_UPPER, 4, 0, -1);
    config.define(Config.BRIDGE_CONTROL, 2, 0, BridgeControl.PARITY | BridgeControl.SERR | BridgeControl.BUS_RESET);
  }

  #update(): void {
    const { config } = this.fn;
    const command = config.get16(Config.COMMAND);
    const memoryBus = (command & Command.MEMORY) !== 0 ? this.fn.bus : undefined;
    const portBus = (command & Command.IO) !== 0 ? this.fn.bus : undefined;
    memoryBatch(() => {
      this.#memory.show(
        memoryBus,
        this.secondary,
        megabytes(config.get16(Config.MEMORY_BASE)),
        megabytes(config.get16(Config.MEMORY_LIMIT)) + 0x10_0000,
      );
      this.#prefetchable.show(
        memoryBus,
        this.secondary,
        megabytes(config.get16(Config.PREFETCH_BASE)) + config.get32(Config.PREFETCH_BASE_UPPER) * 0x1_0000_0000,
        megabytes(config.get16(Config.PREFETCH_LIMIT)) +
          config.get32(Config.PREFETCH_LIMIT_UPPER) * 0x1_0000_0000 +
          0x10_0000,
      );
      this.#ports.show(
        portBus,
        this.secondary,
        (config.get8(Config.IO_BASE) >>> 4) * 0x1000,
        (config.get8(Config.IO_LIMIT) >>> 4) * 0x1000 + 0x1000,
      );
    });
  }

  /** Setting the reset bit resets everything below, once. */
  #control(): void {
    const asked = this.#resetAsked;
    if (asked && !this.#inReset) for (const fn of this.secondary.walk()) fn.reset();
    this.#inReset = asked;
  }

  get #resetAsked(): boolean {
    return (this.fn.config.get16(Config.BRIDGE_CONTROL) & BridgeControl.BUS_RESET) !== 0;
  }
}

/** Two reserved bytes, then both ids. */
function subsystemBody(vendor: number, device: number): Uint8Array {
  return Uint8Array.of(0, 0, vendor, vendor >>> 8, device, device >>> 8);
}

/** A memory window register: bits 15:4 are address bits 31:20. */
function megabytes(register: number): number {
  return (register >>> 4) * 0x10_0000;
}
