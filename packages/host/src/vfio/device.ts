/** A VFIO device: an assigned PCI function as its descriptor shows it. */
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VfioDeviceFlag,
  VfioDeviceInfo,
  VfioIrqInfo,
  VfioIrqSet,
  VfioIrqSetFlag,
  VfioPciRegion,
  VfioRegionInfo,
  viewOf,
} from '@remora/uapi';
import { Errno, trackDisposable, untrackDisposable } from '@remora/core';
import type { HostSyscalls } from '../syscalls.js';
import { canMigrate, readDeviceState, writeDeviceState } from './migration.js';
import { expectOk, VfioError } from './vfio-error.js';

export interface VfioRegion {
  /** VfioPciRegion index: BARs 0 to 5, ROM 6, configuration space 7. */
  readonly index: number;
  /** VfioRegionFlag bits. */
  readonly flags: number;
  /** In bytes; 0 if the device has no such region. */
  readonly size: number;
  /** Where it starts in the device's descriptor. */
  readonly offset: number;
}

export interface VfioIrq {
  /** VfioPciIrq index. */
  readonly index: number;
  /** VfioIrqInfoFlag bits. */
  readonly flags: number;
  readonly count: number;
}

/** Takes the eventfd of a vector away. */
export const NO_EVENTFD = -1;

export class VfioDevice implements Disposable {
  /** Address on the host: `0000:3f:00.0`. */
  readonly bdf: string;
  readonly fd: number;
  /** VfioDeviceFlag bits. */
  readonly flags: number;
  readonly resettable: boolean;
  /** By index. */
  readonly regions: readonly VfioRegion[];
  /** By index. */
  readonly irqs: readonly VfioIrq[];
  readonly #syscalls: HostSyscalls;
  readonly #closed: () => void;
  #open = true;

  /** Used by VfioGroup.openDevice; owns `fd` once it has returned. @throws VfioError if the host does not describe a PCI device. */
  constructor(syscalls: HostSyscalls, fd: number, bdf: string, closed: () => void) {
    this.#syscalls = syscalls;
    this.#closed = closed;
    this.fd = fd;
    this.bdf = bdf;
    const bytes = VfioDeviceInfo.encode({ argsz: VfioDeviceInfo.size });
    expectOk(`${bdf}: VFIO_DEVICE_GET_INFO`, syscalls.ioctl(fd, VFIO_DEVICE_GET_INFO, bytes));
    const info = viewOf(bytes);
    const { flags, num_regions, num_irqs } = VfioDeviceInfo.fields;
    if ((flags.get(info) & VfioDeviceFlag.PCI) === 0) throw new VfioError(bdf, 0, 'not a PCI device');
    this.flags = flags.get(info);
    this.resettable = (this.flags & VfioDeviceFlag.RESET) !== 0;
    this.regions = Array.from({ length: Math.min(num_regions.get(info), 64) }, (_, index) => this.#region(index));
    this.irqs = Array.from({ length: Math.min(num_irqs.get(info), 64) }, (_, index) => this.#irq(index));
    trackDisposable(this, `VFIO device ${bdf}`);
  }

  /** Reads 1, 2 or 4 bytes of configuration space: the unsigned value, or a negated errno. */
  readConfig(offset: number, size: number): number {
    const bytes = new Uint8Array(size);
    const result = this.readRegion(VfioPciRegion.CONFIG, offset, bytes);
    if (result < 0) return result;
    return bytes.reduceRight((value, byte) => value * 0x100 + byte, 0);
  }

  /** Writes 1, 2 or 4 bytes of configuration space. 0 or a negated errno. */
  writeConfig(offset: number, value: number, size: number): number {
    const bytes = Uint8Array.from({ length: size }, (_, index) => value >>> (8 * index));
    return this.writeRegion(VfioPciRegion.CONFIG, offset, bytes);
  }

  /** Fills `out` from a region. 0 or a negated errno; -EIO if the host transferred less. */
  readRegion(index: number, offset: number, out: Uint8Array): number {
    return this.#transferred(out.length, this.#syscalls.pread(this.fd, out, this.#at(index, offset)));
  }

  /** Writes `from` to a region. 0 or a negated errno; -EIO if the host transferred less. */
  writeRegion(index: number, offset: number, from: Uint8Array): number {
    return this.#transferred(from.length, this.#syscalls.pwrite(this.fd, from, this.#at(index, offset)));
  }

  /** Function-level reset, or what else the host has. 0 or a negated errno. */
  reset(): number {
    const result = this.#syscalls.ioctl(this.fd, VFIO_DEVICE_RESET);
    return result < 0 ? result : 0;
  }

  /**
   * Connects vectors `start` and following of interrupt `index` to eventfds; NO_EVENTFD disconnects one. The first call for an
   * index enables it with so many vectors. 0 or a negated errno.
   */
  setEventFds(index: number, start: number, fds: readonly number[]): number {
    return this.#setIrqs(VfioIrqSetFlag.DATA_EVENTFD, index, start, fds.length, fds);
  }

  /** Disables interrupt `index` altogether. 0 or a negated errno. */
  disableIrqs(index: number): number {
    return this.#setIrqs(VfioIrqSetFlag.DATA_NONE, index, 0, 0, []);
  }

  /** Whether the host can move what the device holds behind its registers to another host. */
  get migratable(): boolean {
    return canMigrate(this.#syscalls, this.fd);
  }

  /** What it holds, as the host's driver for it writes it; or a negated errno. The device goes on as before. */
  readState(): Uint8Array | number {
    return readDeviceState(this.#syscalls, this.fd);
  }

  /** Gives it what `readState` returned of a device of its kind. 0 or a negated errno. */
  writeState(state: Uint8Array): number {
    return writeDeviceState(this.#syscalls, this.fd, state);
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#syscalls.close(this.fd);
    this.#closed();
    untrackDisposable(this);
  }

  #setIrqs(data: number, index: number, start: number, count: number, fds: readonly number[]): number {
    const argsz = VfioIrqSet.size + 4 * fds.length;
    const bytes = new Uint8Array(argsz);
    const view = viewOf(bytes);
    VfioIrqSet.write(view, { argsz, flags: data | VfioIrqSetFlag.ACTION_TRIGGER, index, start, count });
    fds.forEach((fd, at) => view.setInt32(VfioIrqSet.size + 4 * at, fd, true));
    const result = this.#syscalls.ioctl(this.fd, VFIO_DEVICE_SET_IRQS, bytes);
    return result < 0 ? result : 0;
  }

  #at(index: number, offset: number): number {
    const region = this.regions[index];
    if (region === undefined) throw new RangeError(`${this.bdf} has no region ${index}`);
    return region.offset + offset;
  }

  #transferred(wanted: number, result: number): number {
    if (result < 0) return result;
    return result === wanted ? 0 : -Errno.EIO;
  }

  /** A region that the host does not know is one of no size: kernels leave out what a device does not have. */
  #region(index: number): VfioRegion {
    const bytes = VfioRegionInfo.encode({ argsz: VfioRegionInfo.size, index });
    if (this.#syscalls.ioctl(this.fd, VFIO_DEVICE_GET_REGION_INFO, bytes) < 0) {
      return { index, flags: 0, size: 0, offset: 0 };
    }
    const view = viewOf(bytes);
    const { flags, size, offset } = VfioRegionInfo.fields;
    return { index, flags: flags.get(view), size: size.number(view), offset: offset.number(view) };
  }

  #irq(index: number): VfioIrq {
    const bytes = VfioIrqInfo.encode({ argsz: VfioIrqInfo.size, index });
    if (this.#syscalls.ioctl(this.fd, VFIO_DEVICE_GET_IRQ_INFO, bytes) < 0) return { index, flags: 0, count: 0 };
    const view = viewOf(bytes);
    return { index, flags: VfioIrqInfo.fields.flags.get(view), count: VfioIrqInfo.fields.count.get(view) };
  }
}
