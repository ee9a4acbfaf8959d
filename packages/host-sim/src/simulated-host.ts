/**
 * A host in one object: physical memory, PCI devices, an injected IOMMU with the driver for it, and a kernel that lends them to
 * processes through VFIO. It knows no vendor.
 */
import {
  AddressSpace,
  ConfigError,
  type Device,
  type Inspector,
  Ledger,
  NO_PASID,
  Ram,
  Region,
  type StateReader,
  type StateWriter,
  Trace,
  trackDisposable,
  untrackDisposable,
  VirtualClock,
} from '@remora/core';
import type { HostIommuFault } from '@remora/iommu';
import { formatBdf, functionByRequesterId, parseBdf, PciBus, type PciFunction, pciSetupIommu } from '@remora/pci';
import { PhysicalDevice } from './devices/physical-device.js';
import { HostInterrupts } from './kernel/interrupts.js';
import { IommuGroup } from './kernel/iommu-group.js';
import { Kernel } from './kernel/kernel.js';
import { DEFAULT_KNOBS, type KernelKnobs } from './kernel/knobs.js';
import { PASID_LIMIT, PasidSpace } from './kernel/pasid-space.js';
import { Frames } from './memory/frames.js';
import { KernelPages } from './memory/kernel-pages.js';
import { ProcessMemory } from './memory/process-memory.js';
import type { HostDevice, HostIommuPlatform, PhysicalIommu, SimulatedHostOptions, UnitMessage } from './options.js';
import { HostProcess } from './process.js';

const ROOT = 'root';
const MiB = 0x10_0000;
const GiB = 0x4000_0000;
/** Where a PC has registers instead of memory. */
const HOLE = { start: 3 * GiB, end: 4 * GiB };
const ADDRESS_SPACE_BYTES = 2 ** 52;

export class SimulatedHost implements Disposable {
  readonly memory: Ram;
  readonly addressSpace: AddressSpace;
  readonly clock: VirtualClock;
  readonly ledger: Ledger;
  /** What its devices and its IOMMU do, as it passes. */
  readonly trace: Trace;
  /** Bus 0; devices on other bus numbers are on root buses of their own. */
  readonly rootBus: PciBus;
  /** Changes count for what is asked from then on; `uapi` for containers that are opened from then on. */
  readonly knobs: KernelKnobs;
  readonly iommu: PhysicalIommu | undefined;
  readonly #seed: number;
  readonly #kernel: Kernel;
  readonly #root: Region;
  readonly #ports: Region;
  readonly #pages: KernelPages;
  readonly #buses = new Map<number, PciBus>();
  readonly #processes = new Set<HostProcess>();
  readonly #faults: HostIommuFault[] = [];
  /** What a process maps is neighbouring frames. */
  readonly #neighbouring: boolean;
  #started = 0;

  /** @throws ConfigError for devices that cannot be placed, or memory of no sensible size. */
  constructor(options: SimulatedHostOptions = {}) {
    this.#seed = options.seed ?? 1;
    this.clock = options.clock ?? new VirtualClock();
    this.ledger = options.ledger ?? new Ledger();
    this.trace = options.trace ?? new Trace();
    this.knobs = { ...DEFAULT_KNOBS, ...options.kernel };
    const bytes = options.memory ?? options.ram?.size ?? 256 * MiB;
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % MiB !== 0) {
      throw new ConfigError('memory', `${bytes} is not a positive multiple of 1 MiB`);
    }
    const holed = bytes > HOLE.start;
    if (options.ram !== undefined && (holed || options.ram.size !== bytes)) {
      throw new ConfigError('ram', `its ${options.ram.size} bytes are not the ${bytes} of memory, or more than 3 GiB`);
    }
    this.memory = options.ram ?? Ram.allocate(holed ? bytes + HOLE.end - HOLE.start : bytes);
    this.#neighbouring = options.ram !== undefined;
    this.#root = Region.container('host', ADDRESS_SPACE_BYTES);
    this.#ports = Region.container('host-ports', 0x1_0000);
    this.#mapMemory(holed);
    this.addressSpace = new AddressSpace('host', this.#root);
    const fails = options.failures ?? (() => 0);
    const interrupts = new HostInterrupts(fails);
    const frames = new Frames(this.memory, this.#seed, { start: HOLE.start / 4096, end: HOLE.end / 4096 });
    this.#pages = new KernelPages(frames, fails);
    const pasids = new PasidSpace(this.#seed);
    this.#kernel = new Kernel({ frames, pasids, interrupts, knobs: this.knobs, ledger: this.ledger, fails });
    this.rootBus = this.#bus(0);
    this.iommu = options.iommu?.(this.#platform());
    this.#kernel.iommu = this.iommu;
    trackDisposable(this, 'simulated host');
    try {
      this.iommu?.driver.start();
      (options.devices ?? []).forEach((device, index) => this.#addDevice(`devices[${index}]`, device));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** A new process, of `user` or root's. Disposing of it ends it. */
  process(name: string, user = ROOT): HostProcess {
    const seed = this.#seed + 1000 * ++this.#started;
    const memory = new ProcessMemory(this.memory, this.#kernel.frames, seed, this.#neighbouring);
    const process: HostProcess = new HostProcess(this.#kernel, { name, user, privileged: user === ROOT }, memory, () =>
      this.#processes.delete(process),
    );
    this.#processes.add(process);
    return process;
  }

  /** The device at `bdf`, as whoever created it knows it. @throws ConfigError if there is none. */
  device<D extends Device = Device>(bdf: string): D {
    return this.#physical(bdf).device as D;
  }

  /** The PCI function of the device at `bdf`. @throws ConfigError if there is none. */
  function(bdf: string): PciFunction {
    return this.#physical(bdf).fn;
  }

  /** Faults that the IOMMU recorded, oldest first. */
  get faults(): readonly HostIommuFault[] {
    this.#takeFaults();
    return this.#faults;
  }

  /** Forgets and returns the faults so far. */
  takeFaults(): HostIommuFault[] {
    this.#takeFaults();
    return this.#faults.splice(0);
  }

  /** Host-physical byte address behind page frame `frame` of memory that a process mapped; undefined for a hole. */
  hpaOf(ram: Ram, frame: number): number | undefined {
    const backing = ram.backing(frame);
    return backing < 0 ? undefined : backing * 4096;
  }

  /** All that the host holds for anybody, JSON-able: equal before and after means that nothing leaked. */
  dump(): Record<string, unknown> {
    return {
      processes: [...this.#processes].map(process => ({ name: process.name, ...(process.state() as object) })),
      groups: [...this.#kernel.groups.values()].map(group => ({
        group: group.number,
        container: group.container?.state() ?? null,
      })),
      pasids: this.#kernel.pasids.state(),
      vmids: this.#kernel.vmids.state(),
      devices: Object.fromEntries([...this.#kernel.devices].map(([bdf, device]) => [bdf, device.state()])),
      frames: this.#kernel.frames.inUse,
      kernelPages: this.#pages.inUse,
      pinned: this.#kernel.pins.state(),
      interrupts: this.#kernel.interrupts.inUse,
      iommu: this.iommu?.describe?.() ?? null,
    };
  }

  /**
   * What of the host is neither in its description nor established by whoever runs on it: which PASIDs come next, and the faults that
   * were recorded. Its hardware's caches are not saved: another host's are empty.
   */
  save(into: StateWriter): void {
    this.#takeFaults();
    into.integer('next-pasid', this.#kernel.pasids.position);
    into.list('faults', this.#faults, (each, { requesterId, pasid, hi, lo, write, reason }) => {
      each.integer('requester', requesterId).integer('pasid', pasid).integer('hi', hi).integer('lo', lo);
      each.flag('write', write).integer('reason', reason);
    });
  }

  load(from: StateReader): void {
    this.#kernel.pasids.position = from.integer('next-pasid', { max: PASID_LIMIT });
    const anything = { min: -(2 ** 31), max: 2 ** 32 - 1 };
    const faults = from.list('faults').map(each => ({
      requesterId: each.integer('requester', { max: 0xffff }),
      pasid: each.integer('pasid', { min: NO_PASID }),
      hi: each.integer('hi', anything),
      lo: each.integer('lo', anything),
      write: each.flag('write'),
      reason: each.integer('reason'),
    }));
    this.#faults.splice(0, this.#faults.length, ...faults);
  }

  inspect(into: Inspector): void {
    for (const [name, value] of Object.entries(this.dump())) into.value(name, value);
    this.iommu?.inspect?.(into.child('unit'));
  }

  /** Ends all processes, removes the devices, stops the IOMMU. */
  [Symbol.dispose](): void {
    for (const process of [...this.#processes].reverse()) process[Symbol.dispose]();
    for (const { device } of [...this.#kernel.devices.values()].reverse()) {
      device.unplug?.();
      device[Symbol.dispose]();
    }
    this.#kernel.devices.clear();
    this.iommu?.driver[Symbol.dispose]();
    this.iommu?.[Symbol.dispose]?.();
    this.addressSpace[Symbol.dispose]();
    untrackDisposable(this);
  }

  #physical(bdf: string): PhysicalDevice {
    const device = this.#kernel.devices.get(normalised('bdf', bdf));
    if (device === undefined) {
      throw new ConfigError(
        'bdf',
        `the host has no device ${bdf}; it has ${[...this.#kernel.devices.keys()].join(', ') || 'none'}`,
      );
    }
    return device;
  }

  #mapMemory(holed: boolean): void {
    const ram = Region.ram('host-ram', this.memory);
    if (!holed) {
      this.#root.add(0, ram);
      return;
    }
    this.#root.add(0, Region.alias('host-ram-low', ram, 0, HOLE.start));
    this.#root.add(HOLE.end, Region.alias('host-ram-high', ram, HOLE.end, this.memory.size - HOLE.end));
  }

  #platform(): HostIommuPlatform {
    // A block has room for both.
    const vectors = this.#kernel.interrupts.allocate(2, vector =>
      vector === 0 ? this.#takeFaults() : this.#kernel.takePageRequests(),
    )!;
    const message = (vector: number): UnitMessage => ({ hi: 0, lo: vectors.address, data: vectors.data + vector });
    return {
      memory: this.memory,
      addressSpace: this.addressSpace,
      pages: this.#pages,
      ledger: this.ledger,
      trace: this.trace,
      clock: this.clock,
      functionAt: requesterId => this.#functionAt(requesterId),
      mapMmio: (base, region) => this.#root.add(base, region, 1),
      sendMsi: (hi, lo, data) => this.#kernel.interrupts.deliver(-1, hi, lo, data),
      faultMessage: message(0),
      pageRequestMessage: message(1),
    };
  }

  #functionAt(requesterId: number): PciFunction | undefined {
    for (const bus of this.#buses.values()) {
      const found = functionByRequesterId(bus, requesterId);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #bus(number: number): PciBus {
    const known = this.#buses.get(number);
    if (known !== undefined) return known;
    const bus = PciBus.root(`host-pci${number}`, {
      number,
      memory: this.#root,
      ports: this.#ports,
      addressSpace: this.addressSpace,
      msi: this.#kernel.interrupts.deliver,
      ledger: this.ledger,
    });
    this.#buses.set(number, bus);
    return bus;
  }

  #addDevice(path: string, { at, group, boundTo, resettable = true, create }: HostDevice): void {
    const bdf = normalised(`${path}.at`, at);
    const place = parseBdf(`${path}.at`, bdf);
    const bus = this.#bus(place.bus ?? 0);
    if (this.iommu !== undefined && bus.iommu === undefined) pciSetupIommu(bus, this.iommu.pci);
    let plugged: PciFunction | undefined;
    const device = create({
      name: bdf,
      clock: this.clock,
      ledger: this.ledger,
      trace: this.trace,
      host: undefined,
      guestMemory: this.addressSpace,
      plug: fn => {
        bus.plug(fn, place.devfn);
        plugged = fn;
      },
    });
    device.realize?.();
    if (plugged === undefined) {
      device[Symbol.dispose]();
      throw new ConfigError(path, `${device.name} did not plug a PCI function`);
    }
    const number = this.#groupFor(bdf, group);
    const driver = boundTo === undefined ? 'vfio-pci' : (boundTo ?? undefined);
    const physical = new PhysicalDevice(bdf, device, plugged, { groupNumber: number, driver, resettable });
    this.#kernel.devices.set(bdf, physical);
    this.#kernel.groups.get(number)?.devices.push(physical);
  }

  /** Numbers by name; one that stands for no group where there is no IOMMU. */
  readonly #groupNumbers = new Map<string, number>();

  #groupFor(bdf: string, name: string | undefined): number {
    const key = name === undefined ? bdf : `group ${name}`;
    const number = this.#groupNumbers.get(key) ?? this.#groupNumbers.size + 1;
    this.#groupNumbers.set(key, number);
    if (this.iommu !== undefined && !this.#kernel.groups.has(number)) {
      this.#kernel.groups.set(number, new IommuGroup(number));
    }
    return number;
  }

  #takeFaults(): void {
    for (const fault of this.iommu?.driver.takeFaults() ?? []) {
      this.#faults.push(fault);
      if (this.ledger.on) this.ledger.add('host/kernel', 'host-fault', { ...fault });
    }
  }
}

/** A host, assembled. @throws ConfigError as the constructor does. */
export function simulatedHost(options: SimulatedHostOptions = {}): SimulatedHost {
  return new SimulatedHost(options);
}

/** `0000:3f:00.0`, whatever was left out. */
function normalised(path: string, text: string): string {
  const { segment, bus, devfn } = parseBdf(path, text);
  return formatBdf(bus ?? 0, devfn, segment);
}
