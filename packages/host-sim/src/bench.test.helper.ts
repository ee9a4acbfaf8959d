/** A host for tests: the fake IOMMU of @remora/testing, and devices that show what reaches them. */
import { frameHi, frameLo, frameOf } from '@remora/bits';
import { AddressSpace, type Device, Region, type RegionTranslator, WHOLE_SPACE } from '@remora/core';
import type { MappedMemory } from '@remora/host';
import { ExpressType, type PciBus, type PciDeviceContext, PciFunction } from '@remora/pci';
import { FakeIommuDriver, type FakeIommuOptions } from '@remora/testing';
import { VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU, viewOf } from '@remora/uapi';
import type { HostProcess } from './process.js';
import type { HostDevice, HostIommuPlatform, PhysicalIommu, SimulatedHostOptions } from './options.js';
import { SimulatedHost } from './simulated-host.js';

export const ENGINE = '0000:3f:00.0';
export const SECOND = '0000:3f:01.0';
export const ENGINE_ID = 0x3f00;
export const SECOND_ID = 0x3f08;

export interface GadgetOptions {
  readonly pasidBits?: number;
  readonly msi?: number;
  readonly msix?: number;
}

/** A function with a scratch register at BAR 0 + 0x10, MSI, MSI-X in BAR 2, and PASIDs. */
export class Gadget implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  scratch = 0;
  resets = 0;
  readonly #context: PciDeviceContext;

  constructor(context: PciDeviceContext, options: GadgetOptions = {}) {
    this.name = context.name;
    this.#context = context;
    this.fn = new PciFunction(context.name, { vendor: 0x1af4, device: 0x10ff, classCode: 0xff0000, pcie: true });
    this.fn.enableExpress(ExpressType.INTEGRATED_ENDPOINT);
    if (options.pasidBits !== 0) this.fn.enablePasid(options.pasidBits ?? 20);
    this.fn.enableMsi(options.msi ?? 4);
    const registers = Region.mmio(`${context.name}.registers`, 0x1000, {
      read: offset => (offset === 0x10 ? this.scratch : 0),
      write: (offset, value) => {
        if (offset === 0x10) this.scratch = value;
      },
    });
    this.fn.addBar(0, registers, { type: 'mem64' });
    this.fn.enableMsix(options.msix ?? 8, 2);
    this.fn.onReset(() => this.resets++);
  }

  realize(): void {
    this.#context.plug(this.fn);
  }

  unplug(): void {
    this.fn.bus?.unplug(this.fn);
  }

  [Symbol.dispose](): void {}
}

export function gadget(at: string, options: GadgetOptions = {}): HostDevice {
  return { at, create: context => new Gadget(context, options) };
}

/** Requests go through the fake driver's domains. */
class FakeIommu implements PhysicalIommu {
  readonly driver: FakeIommuDriver;
  readonly pci = { wantsNesting: false, addressSpaceFor: (bus: PciBus, devfn: number) => this.#space(bus, devfn) };
  readonly #platform: HostIommuPlatform;
  readonly #target: AddressSpace;
  readonly #spaces = new Map<number, AddressSpace>();

  constructor(platform: HostIommuPlatform, driver: FakeIommuDriver) {
    this.driver = driver;
    this.#platform = platform;
    this.#target = platform.addressSpace;
  }

  /** The unit's message that it has queued page requests. */
  sendPageRequestMessage(): void {
    const { hi, lo, data } = this.#platform.pageRequestMessage;
    this.#platform.sendMsi(hi, lo, data);
  }

  describe(): unknown {
    return this.driver.state();
  }

  #space(bus: PciBus, devfn: number): AddressSpace {
    const requesterId = (bus.number << 8) | devfn;
    const known = this.#spaces.get(requesterId);
    if (known !== undefined) return known;
    const translator: RegionTranslator = {
      target: this.#target,
      translate: (hi, lo, access, attrs, out) => {
        const page = this.driver.access(requesterId, attrs.pasid, frameOf(hi, lo), access);
        if (page === undefined) return 1;
        out.hi = frameHi(page.hostFrame);
        out.lo = frameLo(page.hostFrame);
        out.shift = 12;
        out.access = page.access;
        return 0;
      },
    };
    const space = new AddressSpace(bus.name, Region.iommu('fake-iommu', WHOLE_SPACE, translator));
    this.#spaces.set(requesterId, space);
    return space;
  }
}

export interface Bench extends Disposable {
  readonly host: SimulatedHost;
  readonly driver: FakeIommuDriver;
  /** The unit says that it has page requests. */
  readonly pagesRequested: () => void;
}

export interface BenchOptions extends Omit<SimulatedHostOptions, 'iommu'> {
  readonly unit?: FakeIommuOptions;
  /** The driver itself, in place of one with `unit`. */
  readonly driver?: FakeIommuDriver;
}

/** By default two gadgets on bus 0x3f, each a group of its own: groups 1 and 2. */
export function bench({ unit, driver, ...options }: BenchOptions = {}): Bench {
  let iommu: FakeIommu | undefined;
  const host = new SimulatedHost({
    memory: 0x100_0000,
    devices: [gadget(ENGINE), gadget(SECOND)],
    ...options,
    iommu: platform => (iommu = new FakeIommu(platform, driver ?? new FakeIommuDriver(unit))),
  });
  const pagesRequested = (): void => iommu!.sendPageRequestMessage();
  return { host, driver: iommu!.driver, pagesRequested, [Symbol.dispose]: () => host[Symbol.dispose]() };
}

/** mmap that must succeed. */
export function mapped(process: HostProcess, bytes: number): MappedMemory {
  const memory = process.mmap(bytes);
  if (typeof memory === 'number') throw new Error(`mmap: ${memory}`);
  return memory;
}

/** A 32-bit integer as a pointer argument. */
export function pointerTo(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setInt32(0, value, true);
  return bytes;
}

/** Group descriptors `groups`, opened and in container `container`; no IOMMU is set yet. */
export function opened(process: HostProcess, ...groups: number[]): { container: number; groups: number[] } {
  const container = process.open('/dev/vfio/vfio');
  const fds = groups.map(number => process.open(`/dev/vfio/${number}`));
  for (const fd of fds) process.ioctl(fd, VFIO_GROUP_SET_CONTAINER, pointerTo(container));
  return { container, groups: fds };
}

/** The same with its IOMMU set. */
export function ready(
  process: HostProcess,
  type: number,
  ...groups: number[]
): { container: number; groups: number[] } {
  const open = opened(process, ...groups);
  const result = process.ioctl(open.container, VFIO_SET_IOMMU, type);
  if (result !== 0) throw new Error(`VFIO_SET_IOMMU: ${result}`);
  return open;
}

/** The descriptor of a device of a group. */
export function deviceOf(process: HostProcess, group: number, bdf: string): number {
  return process.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${bdf}\0`));
}
