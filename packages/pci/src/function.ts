/**
 * A PCI function: configuration space, BARs, capabilities, interrupts and the way to memory. Devices compose it; they do not
 * inherit from it.
 */
import type { Inspector, Region, StateReader, StateWriter } from '@remora/core';
import type { AtsEndpoint } from '@remora/iommu';
import { AtsCapability, type AtsOptions } from './ats-capability.js';
import { Bars, type BarOptions } from './bars.js';
import { formatBdf } from './bdf.js';
import type { PciBus } from './bus.js';
import { Capabilities } from './capabilities.js';
import { ConfigSpace } from './config-space.js';
import { checkIdentity, identityOf } from './config-state.js';
import { DmaTarget } from './dma.js';
import { addExpress, type ExpressOptions } from './express.js';
import { Intx } from './intx.js';
import type { HostContextOf } from './iommu.js';
import { PasidLayout } from './layouts.js';
import { Msi, type MsiOptions } from './msi.js';
import { Msix } from './msix.js';
import { PriCapability, type PriOptions } from './pri-capability.js';
import { Command, Config, ExpressType, ExtendedCapability, HEADER_MULTI_FUNCTION, Status } from './registers.js';

export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly revision?: number;
  /** 24 bits: base class, sub-class, programming interface. */
  readonly classCode: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** 0 (default), or 1 for a bridge. */
  readonly headerType?: 0 | 1;
  /** 1 .. 4 for INTA .. INTD; 0 (default): it uses none. */
  readonly interruptPin?: number;
  /** PCI Express: 4096 bytes of configuration space. The capability itself comes from enableExpress. */
  readonly pcie?: boolean;
}

export interface PasidOptions {
  readonly execute?: boolean;
  readonly privileged?: boolean;
}

export class PciFunction {
  readonly name: string;
  readonly config: ConfigSpace;
  readonly bars: Bars;
  readonly capabilities: Capabilities;
  readonly dma: DmaTarget;
  readonly intx: Intx;
  /** The bus below, if this is a bridge; set by PciBridge. */
  secondary: PciBus | undefined;
  /** The host behind this function; see pciDeviceSetupIommu. */
  hostContextOf: HostContextOf | undefined;
  /** Its device TLB, which the IOMMU above sends invalidations and page responses to; set by a device with ATS. */
  ats: AtsEndpoint | undefined;
  #bus: PciBus | undefined;
  #devfn = 0;
  #expressType: ExpressType | undefined;
  #pasidOffset: number | undefined;
  #atsCapability: AtsCapability | undefined;
  #priCapability: PriCapability | undefined;
  #msi: Msi | undefined;
  #msix: Msix | undefined;
  readonly #moves: (() => void)[] = [];
  readonly #resets: (() => void)[] = [];
  readonly #loads: (() => void)[] = [];

  constructor(name: string, id: PciIdentity) {
    this.name = name;
    this.config = new ConfigSpace(id.pcie === true);
    this.capabilities = new Capabilities(this.config);
    this.dma = new DmaTarget(this);
    this.#defineHeader(id);
    this.bars = new Bars(this.config, id.headerType === 1 ? 2 : 6, () => this.#bus);
    this.onMove(() => this.bars.update());
    this.intx = new Intx(this);
  }

  /** Undefined while unplugged. */
  get bus(): PciBus | undefined {
    return this.#bus;
  }

  /** device << 3 | function on that bus. */
  get devfn(): number {
    return this.#devfn;
  }

  /** bus << 8 | devfn, from the live bus number. @throws Error while unplugged. */
  get requesterId(): number {
    if (this.#bus === undefined) throw new Error(`${this.name} is not plugged`);
    return (this.#bus.number << 8) | this.#devfn;
  }

  /** `0000:00:03.0`, from the live bus number; the name while unplugged. */
  get bdf(): string {
    return this.#bus === undefined ? this.name : formatBdf(this.#bus.number, this.#devfn);
  }

  /** Device/port type of the PCI Express capability; undefined without one. */
  get expressType(): ExpressType | undefined {
    return this.#expressType;
  }

  /** Whether the bus below is a link, with room for one device. */
  get ownsLink(): boolean {
    return this.#expressType === ExpressType.ROOT_PORT || this.#expressType === ExpressType.DOWNSTREAM_PORT;
  }

  /** @throws RangeError if the register is taken or the region's size no power of two. */
  addBar(index: number, region: Region, options: BarOptions): void {
    this.bars.add(index, region, options);
    this.bars.update();
  }

  /** See Capabilities.add. Returns the offset. */
  addCapability(id: number, body: Uint8Array, writeMask?: Uint8Array, at?: number): number {
    return this.capabilities.add(id, body, writeMask, at);
  }

  /** See Capabilities.addExtended. Returns the offset. */
  addExtendedCapability(id: number, version: number, body: Uint8Array, writeMask?: Uint8Array): number {
    return this.capabilities.addExtended(id, version, body, writeMask);
  }

  /** Adds the PCI Express capability. An endpoint gets function-level reset. Returns the offset. */
  enableExpress(type: ExpressType, options: ExpressOptions = {}): number {
    this.#expressType = type;
    return addExpress(this, type, options);
  }

  /** Adds the PASID capability with `width` bits (1 .. 20). Returns the offset. */
  enablePasid(width: number, options: PasidOptions = {}): number {
    const execute = options.execute === true ? 1 : 0;
    const privileged = options.privileged === true ? 1 : 0;
    const values = PasidLayout.encode({ width, executeSupported: execute, privilegedSupported: privileged });
    const writable = PasidLayout.encode({ enable: 1, executeEnable: execute, privilegedEnable: privileged });
    this.#pasidOffset = this.capabilities.addExtended(
      ExtendedCapability.PASID,
      1,
      new Uint8Array(values.buffer, 4),
      new Uint8Array(writable.buffer, 4),
    );
    return this.#pasidOffset;
  }

  /** Number of PASID bits that the function has; 0 without the capability. */
  get pasidBits(): number {
    return this.#pasidOffset === undefined ? 0 : PasidLayout.fields.width.get(this.config.words, this.#pasidOffset / 4);
  }

  /** Whether software set PASID Enable. */
  get pasidEnabled(): boolean {
    const at = this.#pasidOffset;
    return at !== undefined && PasidLayout.fields.enable.get(this.config.words, at / 4) !== 0;
  }

  /** Adds the ATS capability; the device sets `ats`, or a DeviceTlb does. */
  enableAts(options: AtsOptions = {}): AtsCapability {
    this.#atsCapability = new AtsCapability(this.config, this.capabilities, options);
    return this.#atsCapability;
  }

  /** Adds the PRI capability, for a function with ATS; responses must carry PASIDs if the function has PASIDs already. */
  enablePri(options: PriOptions = {}): PriCapability {
    const responsePasidRequired = this.#pasidOffset !== undefined;
    this.#priCapability = new PriCapability(this.config, this.capabilities, { responsePasidRequired, ...options });
    return this.#priCapability;
  }

  get atsCapability(): AtsCapability | undefined {
    return this.#atsCapability;
  }

  get priCapability(): PriCapability | undefined {
    return this.#priCapability;
  }

  /** Whether software lets the function use ATS. */
  get atsEnabled(): boolean {
    return this.#atsCapability?.enabled === true;
  }

  /** Whether software lets the function request pages. */
  get priEnabled(): boolean {
    return this.#priCapability?.enabled === true;
  }

  /** Adds MSI with `vectors` vectors (a power of two up to 32). */
  enableMsi(vectors: number, options?: MsiOptions): Msi {
    this.#msi = new Msi(this.config, this.capabilities, vectors, this.#send, options);
    return this.#msi;
  }

  /** Adds MSI-X with `vectors` vectors; table and pending bits are in BAR `barIndex`, which must be free. */
  enableMsix(vectors: number, barIndex: number): Msix {
    this.#msix = new Msix(this.name, this.config, this.capabilities, vectors, barIndex, this.#send);
    this.addBar(barIndex, this.#msix.region, { type: 'mem32' });
    return this.#msix;
  }

  /** Whether software has chosen MSI or MSI-X instead of INTx. */
  get messagesEnabled(): boolean {
    return this.#msix?.enabled === true || this.#msi?.enabled === true;
  }

  /** Raises `vector` through MSI-X or MSI, whichever software enabled; nothing happens if it enabled neither. */
  msi(vector: number): void {
    if (this.#msix?.enabled === true) this.#msix.raise(vector);
    else if (this.#msi?.enabled === true) this.#msi.raise(vector);
  }

  /**
   * Configuration space back to its values after reset, BARs unmapped, interrupts forgotten. Also what a function-level reset and
   * a bridge's bus reset do; a device that has state of its own clears it in onReset.
   */
  reset(): void {
    this.#msix?.reset();
    this.config.reset();
    for (const reset of this.#resets) reset();
  }

  /** Calls `reset` after every reset of this function. */
  onReset(reset: () => void): void {
    this.#resets.push(reset);
  }

  /** Configuration space, MSI-X table and pending vectors. */
  save(into: StateWriter): void {
    into.text('identity', identityOf(this)).bytes('config', this.config.bytes);
    this.#msix?.save(into.child('msix'));
  }

  /**
   * Takes what `save` wrote, and maps BARs and windows by it. Nothing else of what guest writes set off happens.
   * @throws StateError if it is of another kind of function.
   */
  load(from: StateReader): void {
    checkIdentity(this, from);
    from.bytes('config', this.config.bytes);
    this.#msix?.load(from.child('msix'));
    this.bars.update();
    for (const loaded of this.#loads) loaded();
  }

  /** Calls `loaded` after this function's registers were loaded: they are as they were, and nobody wrote them. */
  onLoad(loaded: () => void): void {
    this.#loads.push(loaded);
  }

  /** Calls `move` after the function was plugged or unplugged. */
  onMove(move: () => void): void {
    this.#moves.push(move);
  }

  /** Called by PciBus. */
  moved(bus: PciBus | undefined, devfn: number): void {
    const before = this.#bus?.platform;
    this.#bus = bus;
    this.#devfn = devfn;
    this.intx.moved(before);
    for (const move of this.#moves) move();
  }

  /** Called by PciBus: whether there are functions beside this function 0. */
  announceSiblings(siblings: boolean): void {
    const type = this.config.get8(Config.HEADER_TYPE) & ~HEADER_MULTI_FUNCTION;
    this.config.define(Config.HEADER_TYPE, 1, siblings ? type | HEADER_MULTI_FUNCTION : type);
  }

  inspect(into: Inspector): void {
    const hex = (value: number): string => value.toString(16).padStart(4, '0');
    into.value('bdf', this.bdf);
    into.value('id', `${hex(this.config.get16(Config.VENDOR))}:${hex(this.config.get16(Config.DEVICE))}`);
    into.value('command', this.config.get16(Config.COMMAND));
    for (let index = 0; index < 6; index++) {
      const region = this.bars.region(index);
      if (region !== undefined)
        into.value(`bar${index}`, { size: region.size, address: this.bars.address(index) ?? 'unmapped' });
    }
    into.value('capabilities', this.capabilities.standard);
    into.value('extendedCapabilities', this.capabilities.extended);
  }

  readonly #send = (hi: number, lo: number, data: number): void => {
    this.dma.message(hi, lo, data);
  };

  #defineHeader(id: PciIdentity): void {
    const { config } = this;
    config.define(Config.VENDOR, 2, id.vendor);
    config.define(Config.DEVICE, 2, id.device);
    const command = Command.IO | Command.MEMORY | Command.MASTER | Command.PARITY | Command.SERR | Command.INTX_DISABLE;
    config.define(Config.COMMAND, 2, 0, command);
    config.define(Config.STATUS, 2, 0, 0, Status.ERRORS);
    config.define(Config.REVISION, 1, id.revision ?? 0);
    config.define(Config.CLASS, 1, id.classCode);
    config.define(Config.CLASS + 1, 2, id.classCode >>> 8);
    config.define(Config.CACHE_LINE_SIZE, 1, 0, 0xff);
    config.define(Config.HEADER_TYPE, 1, id.headerType ?? 0);
    config.define(Config.INTERRUPT_LINE, 1, 0, 0xff);
    config.define(Config.INTERRUPT_PIN, 1, id.interruptPin ?? 0);
    if (id.headerType === 1) return;
    config.define(Config.SUBSYSTEM_VENDOR, 2, id.subsystemVendor ?? id.vendor);
    config.define(Config.SUBSYSTEM, 2, id.subsystem ?? id.device);
  }
}
