/**
 * vfio-pci: a function of the host in the guest. Registers are forwarded, access by access; configuration space is the guest's own,
 * except for capabilities that only the host's function can answer; memory that the function may reach is mapped by its VFIO
 * container; interrupts come as eventfds. Under a vIOMMU that nests, the host's IOMMU walks the guest's first stage [A06].
 *
 * Reference: Linux vfio.h; QEMU hw/vfio/pci.c for what is emulated. Omits: INTx, the expansion ROM, mmap of BARs, migration, and
 * extended capabilities other than PASID, ATS and PRI.
 */
import {
  ConfigError,
  Errno,
  errnoName,
  logger,
  rateLimited,
  type Device,
  type Inspector,
  type Log,
  type ResetPhase,
  type Resumed,
  StateError,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import { type IommufdHostIOMMUContext, MachineProcess, VfioError } from '@remora/host';
import { HostIommuFlag } from '@remora/iommu';
import {
  Config,
  MsiLayout,
  MsixLayout,
  pciDeviceSetupIommu,
  pciDeviceUnsetIommu,
  PciFunction,
  type Msi,
  type PciDeviceContext,
} from '@remora/pci';
import { VfioPciRegion } from '@remora/uapi';
import { addHostBars } from './bars.js';
import type { VfioPciConfig } from './config.js';
import { connectHost, type HostFunction } from './connect.js';
import { ForwardedConfig } from './forwarded-config.js';
import { HostHeader } from './header.js';
import { HostInterrupts } from './interrupts.js';
import { VFIO_PCI_EVENTS, type VfioPciTrace } from './trace-events.js';

const WARNINGS = 20;
/** An MSI-X table alone in its BAR: no room beside table and pending bits, as Msix lays them out. */
const MSIX_BAR_BYTES = 4096;
/** Of a host device, in bytes. */
const MAX_STATE = 64 * 0x10_0000;

export class VfioPci implements Device {
  readonly name: string;
  /** The guest's function. */
  readonly fn: PciFunction;
  readonly #context: PciDeviceContext;
  readonly #config: VfioPciConfig;
  readonly #log: Log;
  readonly #trace: VfioPciTrace;
  #connection: HostFunction | undefined;
  #interrupts: HostInterrupts | undefined;
  #forwarded: ForwardedConfig | undefined;
  /** What the host's device is to be given once everything else stands. */
  #incoming: Uint8Array | undefined;

  constructor(context: PciDeviceContext, config: VfioPciConfig) {
    this.name = context.name;
    this.#context = context;
    this.#config = config;
    this.#log = rateLimited(logger('remora:hw:vfio-pci', context.name), WARNINGS);
    this.#trace = context.trace.points(context.name, VFIO_PCI_EVENTS);
    // Who it is, only the host knows: realize() fills it in.
    this.fn = new PciFunction(context.name, { vendor: 0xffff, device: 0xffff, classCode: 0, pcie: true });
  }

  /** The open host function, and its container or I/O address space; undefined unless realized. */
  get connection(): HostFunction | undefined {
    return this.#connection;
  }

  /** @throws ConfigError at `host` that says what the host refused; nothing is left open on it then. */
  realize(): void {
    const process = this.#context.host;
    if (!(process instanceof MachineProcess)) {
      throw new ConfigError('host', `${this.#config.host} is a host's, and this machine runs on no host`);
    }
    this.#context.plug(this.fn);
    try {
      this.#connection = connectHost(process, this.fn, this.#context, this.#config);
      this.#build(process, this.#connection);
      this.#setupIommu(this.#connection);
      const { vfio_attach_device: attached } = this.#trace;
      if (attached.on) attached.emit(this.#config.host, this.#connection.group);
    } catch (cause) {
      this.#release();
      if (cause instanceof VfioError || cause instanceof RangeError) {
        throw new ConfigError('host', cause.message, { cause });
      }
      throw cause;
    }
  }

  /** All of it: registers, BARs, interrupts and, through onReset, the host's function. */
  reset(phase: ResetPhase): void {
    if (phase === 'hold') this.fn.reset();
  }

  unplug(): void {
    this.#release();
  }

  /**
   * What the host's device holds comes from the host, through VFIO's migration interface.
   * @throws StateError if the host cannot move this device's state: QEMU's migration blocker.
   */
  save(into: StateWriter): void {
    const { device } = this.#connection!;
    if (!device.migratable) throw into.refusal(`the host cannot move the state of its device ${device.bdf}`);
    const state = device.readState();
    if (typeof state === 'number') {
      throw into.refusal(`the host does not give the state of its device ${device.bdf}: ${errnoName(state)}`);
    }
    into.bytes('host-device', state);
  }

  load(from: StateReader): void {
    this.#incoming = from.anyBytes('host-device', MAX_STATE);
  }

  /** The guest's registers are loaded: whom they interrupt, and what they let the host's function do, holds there again. */
  resume(): readonly Resumed[] {
    const { device } = this.#connection!;
    this.#forwarded?.resume();
    this.#interrupts?.update();
    const state = this.#incoming;
    this.#incoming = undefined;
    if (state === undefined) return [];
    const result = device.migratable ? device.writeState(state) : -Errno.ENOTTY;
    if (result < 0) {
      throw new StateError(
        this.name,
        `the host does not take the state of its device ${device.bdf}: ${errnoName(result)}`,
      );
    }
    const connected = this.#interrupts?.describe();
    return [
      ...(connected === undefined ? [] : [{ what: 'interrupts', detail: connected }]),
      { what: 'host device', detail: `${device.bdf}, ${state.length} bytes of state` },
    ];
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    into.value('host', this.#config.host);
    const { home, nested, nestingRefused } = this.#connection ?? {};
    into.value('container', home);
    into.value('nested', nested);
    if (nestingRefused !== undefined) into.value('nestingRefused', nestingRefused);
  }

  [Symbol.dispose](): void {
    this.#release();
  }

  #build(process: MachineProcess, { device }: HostFunction): void {
    const header = this.#readHeader();
    this.#defineIdentity(header);
    const emulated = header.emulated;
    const { msix } = emulated;
    const alone = msix !== undefined && msix.tableOffset === 0 && device.regions[msix.bar]?.size === MSIX_BAR_BYTES;
    const free = addHostBars(this.fn, device, header, this.#log, alone ? msix.bar : undefined, this.#trace);
    const forwarded = new ForwardedConfig(this.fn, device, this.#log, this.#trace);
    for (const capability of header.forwarded) forwarded.add(capability);
    this.#forwarded = forwarded;
    this.#addCapabilities(process, header, alone ? msix?.bar : free.at(-1));
    this.fn.onReset(() => {
      if (!device.resettable) return;
      const { vfio_pci_reset: reset } = this.#trace;
      if (reset.on) reset.emit(device.bdf);
      const result = device.reset();
      if (result < 0) this.#log.warn('the host does not reset %s: %d', device.bdf, result);
    });
  }

  #readHeader(): HostHeader {
    const { device } = this.#connection!;
    const region = device.regions[VfioPciRegion.CONFIG];
    const size = region?.size ?? 0;
    const { vfio_populate_device_config: found } = this.#trace;
    if (found.on) found.emit(device.bdf, size, region?.offset ?? 0, region?.flags ?? 0);
    const bytes = new Uint8Array(size);
    const result = size === 0 ? 0 : device.readRegion(VfioPciRegion.CONFIG, 0, bytes);
    if (result < 0 || size < 256) throw new VfioError(device.bdf, result, 'its configuration space cannot be read');
    return new HostHeader(bytes);
  }

  #defineIdentity(header: HostHeader): void {
    const { vendor, device, revision, classCode, subsystemVendor, subsystem } = header.identity;
    const { config } = this.fn;
    config.define(Config.VENDOR, 2, vendor);
    config.define(Config.DEVICE, 2, device);
    config.define(Config.REVISION, 1, revision);
    config.define(Config.CLASS, 1, classCode);
    config.define(Config.CLASS + 1, 2, classCode >>> 8);
    config.define(Config.SUBSYSTEM_VENDOR, 2, subsystemVendor);
    config.define(Config.SUBSYSTEM, 2, subsystem);
  }

  /** Those that the guest's function has itself. `msixBar` is where the MSI-X table goes: without a free BAR there is none. */
  #addCapabilities(process: MachineProcess, header: HostHeader, msixBar: number | undefined): void {
    const { fn } = this;
    const has = header.emulated;
    if (has.express !== undefined) fn.enableExpress(has.express.type, has.express);
    const msi = has.msi === undefined ? undefined : fn.enableMsi(has.msi);
    const msix = has.msix === undefined || msixBar === undefined ? undefined : fn.enableMsix(has.msix.vectors, msixBar);
    const pasid = has.pasid ?? pasidsBeside(this.#connection!);
    if (pasid !== undefined) fn.enablePasid(pasid.width, pasid);
    this.#addPageRequests(header);
    const guest = { msi: () => grantedVectors(fn, msi), msix: () => (msix?.enabled === true ? msix.vectors : 0) };
    const interrupts = new HostInterrupts(
      fn,
      process.syscalls,
      this.#connection!.device,
      guest,
      this.#log,
      this.#trace,
    );
    this.#interrupts = interrupts;
    this.#traceInterrupts(msi?.offset, msix?.offset, has.msix?.vectors ?? 0, msixBar ?? 0);
    const watch = (offset: number, bytes: number): void => {
      fn.config.onWrite({ start: offset, end: offset + bytes }, () => interrupts.update());
    };
    if (msi !== undefined) watch(msi.offset, MsiLayout.bytes);
    if (msix !== undefined) watch(msix.offset, MsixLayout.bytes);
  }

  /**
   * The guest's function has ATS and PRI if a way leads from the host's to the guest's vIOMMU, or ATS alone if it is told to. What the guest
   * enables is its own business: the host enables its function's by itself, PRI when it first serves page requests.
   */
  #addPageRequests({ ats, pri }: HostHeader): void {
    const flags = this.#connection!.context?.flags ?? 0;
    const requests = pri !== undefined && (flags & HostIommuFlag.PAGE_REQUESTS) !== 0;
    if (ats === undefined || !(requests || this.#config['x-ats'])) return;
    this.fn.enableAts(ats);
    if (requests) this.fn.enablePri(pri);
  }

  /** Where the guest finds the capabilities that it has of MSI and MSI-X. */
  #traceInterrupts(msi: number | undefined, msix: number | undefined, vectors: number, bar: number): void {
    const { vfio_msi_setup: setup, vfio_msix_early_setup: early } = this.#trace;
    const { bdf } = this.#connection!.device;
    if (msi !== undefined && setup.on) setup.emit(bdf, msi);
    if (msix !== undefined && early.on) early.emit(bdf, msix, bar, 0, vectors);
  }

  /** Last, and only if all went well [A06]: the vIOMMU may use the host's IOMMU from now on. */
  #setupIommu({ context }: HostFunction): void {
    if (context !== undefined) pciDeviceSetupIommu(this.fn, () => context);
  }

  /** In the opposite order: the vIOMMU lets go while the host's context is still there. */
  #release(): void {
    pciDeviceUnsetIommu(this.fn);
    this.#interrupts?.[Symbol.dispose]();
    this.#interrupts = undefined;
    this.fn.bus?.unplug(this.fn);
    const { vfio_detach_device: detached } = this.#trace;
    if (this.#connection !== undefined && detached.on) detached.emit(this.#config.host, this.#connection.group);
    this.#connection?.[Symbol.dispose]();
    this.#connection = undefined;
  }
}

/** Vectors that the guest granted to MSI; 0 while it is disabled. */
function grantedVectors(fn: PciFunction, msi: Msi | undefined): number {
  if (msi === undefined || !msi.enabled) return 0;
  return 2 ** MsiLayout.fields.granted.get(fn.config.words, msi.offset / 4);
}

/** What iommufd tells of the function's PASIDs: Linux hides the capability from who opens the function. As QEMU has it. */
function pasidsBeside(connection: HostFunction): IommufdHostIOMMUContext['functionPasids'] {
  return 'deviceId' in connection ? connection.context?.functionPasids : undefined;
}
