/** A bus: 256 places for functions, and the containers in which their BARs appear. A bridge's secondary bus has a parent. */
import { type AddressSpace, ConfigError, type Ledger, type Region } from '@remora/core';
import { RemappedInterrupt } from '@remora/iommu';
import { formatBdf } from './bdf.js';
import type { PciFunction } from './function.js';
import { sendInterrupt } from './interrupt-path.js';
import type { PciIommuOps } from './iommu.js';
import type { MsiSink } from './msi-sink.js';
import { Config } from './registers.js';

/** What a root complex stands on. */
export interface PciPlatform {
  /** What a function reaches that no IOMMU translates: system memory. */
  readonly addressSpace: AddressSpace;
  /** Takes interrupt requests, with the requester id that the root complex sees. */
  readonly msi: MsiSink;
  /** Called after a function below asserted INTx, or let go of it; absent where nobody listens. */
  readonly intx?: () => void;
  readonly ledger?: Ledger | undefined;
}

export interface RootBusOptions extends PciPlatform {
  /** Containers into which BARs and bridge windows are mapped. */
  readonly memory: Region;
  readonly ports: Region;
  /** Bus number; 0 unless this is an additional root. */
  readonly number?: number;
}

const SLOTS = 256;

export class PciBus {
  readonly name: string;
  /** Whether this is a PCI Express bus (a root complex or a link); otherwise conventional PCI. */
  readonly express: boolean;
  /** The bridge above; undefined for a root bus. */
  readonly parent: PciFunction | undefined;
  readonly memory: Region;
  readonly ports: Region;
  /** The IOMMU of the functions below; see pciSetupIommu. */
  iommu: PciIommuOps | undefined;
  readonly #functions = new Array<PciFunction | undefined>(SLOTS).fill(undefined);
  readonly #platform: PciPlatform | undefined;
  readonly #number: number;
  readonly #remapped = new RemappedInterrupt();

  private constructor(
    name: string,
    express: boolean,
    memory: Region,
    ports: Region,
    parent: PciFunction | undefined,
    platform: PciPlatform | undefined,
    number: number,
  ) {
    this.name = name;
    this.express = express;
    this.memory = memory;
    this.ports = ports;
    this.parent = parent;
    this.#platform = platform;
    this.#number = number;
  }

  /** A root complex's bus. */
  static root(name: string, options: RootBusOptions): PciBus {
    return new PciBus(name, true, options.memory, options.ports, undefined, options, options.number ?? 0);
  }

  /** A bridge's secondary bus; made by PciBridge. */
  static below(name: string, bridge: PciFunction, express: boolean, memory: Region, ports: Region): PciBus {
    return new PciBus(name, express, memory, ports, bridge, undefined, 0);
  }

  /** Live: what software last wrote to the bridge's secondary bus register. */
  get number(): number {
    return this.parent === undefined ? this.#number : this.parent.config.get8(Config.SECONDARY_BUS);
  }

  /** By devfn; undefined where nothing is plugged. */
  get functions(): readonly (PciFunction | undefined)[] {
    return this.#functions;
  }

  /** What the root above stands on; undefined while a bridge on the way is not plugged. */
  get platform(): PciPlatform | undefined {
    return this.parent === undefined ? this.#platform : this.parent.bus?.platform;
  }

  /**
   * The DWORD `data` written to `(hi, lo)` as an interrupt request of a part of the root complex, which is no function but has a
   * requester id: an I/O APIC. Returns false if the IOMMU of this bus blocked it. @throws Error if no platform is above.
   */
  interrupt(requesterId: number, hi: number, lo: number, data: number): boolean {
    const { platform } = this;
    if (platform === undefined) throw new Error(`${this.name} has no platform`);
    return sendInterrupt(this.iommu, platform.msi, requesterId, hi, lo, data, this.#remapped);
  }

  /** Lowest device number of which all eight functions are free, as a devfn; undefined if there is none. */
  get freeSlot(): number | undefined {
    for (let devfn = 0; devfn < this.#slots(); devfn += 8) {
      if (this.#functions.slice(devfn, devfn + 8).every(fn => fn === undefined)) return devfn;
    }
    return undefined;
  }

  /**
   * Plugs `fn` at `devfn`, at any time (hot plug included). A device of several functions is announced in the header of its
   * function 0.
   * @throws ConfigError if the place is taken, does not exist on this bus (a PCI Express link has device 0 only), or `fn` is
   * plugged elsewhere.
   */
  plug(fn: PciFunction, devfn: number): void {
    const path = `${this.name}.${formatBdf(this.number, devfn)}`;
    if (!Number.isInteger(devfn) || devfn < 0 || devfn >= SLOTS) throw new ConfigError(path, 'devfn is not 0 .. 255');
    if (devfn >= this.#slots())
      throw new ConfigError(path, `a PCI Express link has device 00 only, ${fn.name} cannot go here`);
    const there = this.#functions[devfn];
    if (there !== undefined) throw new ConfigError(path, `${there.name} is here, ${fn.name} needs another place`);
    if (fn.bus !== undefined) throw new ConfigError(path, `${fn.name} is already plugged at ${fn.bdf}`);
    this.#functions[devfn] = fn;
    this.#announce(devfn);
    fn.moved(this, devfn);
  }

  /** Unplugs `fn`: its BARs are unmapped and its DMA refused from now on. @throws Error if it is not plugged here. */
  unplug(fn: PciFunction): void {
    const devfn = fn.devfn;
    if (fn.bus !== this || this.#functions[devfn] !== fn) throw new Error(`${fn.name} is not on ${this.name}`);
    fn.moved(undefined, devfn);
    this.#functions[devfn] = undefined;
    this.#announce(devfn);
  }

  /** Every function on this bus and below, a bridge before what is behind it, in devfn order. */
  *walk(): Generator<PciFunction> {
    for (const fn of this.#functions) {
      if (fn === undefined) continue;
      yield fn;
      if (fn.secondary !== undefined) yield* fn.secondary.walk();
    }
  }

  /** A link has one device: what is below a root or downstream port. */
  #slots(): number {
    return this.express && this.parent?.ownsLink === true ? 8 : SLOTS;
  }

  #announce(devfn: number): void {
    const first = devfn & ~7;
    const siblings = this.#functions.slice(first + 1, first + 8).some(fn => fn !== undefined);
    this.#functions[first]?.announceSiblings(siblings);
  }
}
