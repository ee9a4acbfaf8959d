/** A lent PCI device, opened: regions, interrupts, reset. */
import { AddressSpace, Errno, MemTx, Region } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import { Capability, Config, MsixEntry, MsixLayout } from '@remora/pci';
import {
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VfioDeviceFeature,
  VfioDeviceFlag,
  VfioDeviceInfo,
  VfioIrqInfo,
  VfioIrqInfoFlag,
  VfioPciIrq,
  VfioPciRegion,
  VfioRegionFlag,
  VfioRegionInfo,
} from '@remora/uapi';
import { DeviceInterrupts } from '../devices/device-interrupts.js';
import type { PhysicalDevice } from '../devices/physical-device.js';
import { VirtualConfig } from '../devices/virtual-config.js';
import type { Kernel } from '../kernel/kernel.js';
import type { KernelKnobs } from '../kernel/knobs.js';
import { userStruct } from '../kernel/user.js';
import type { HostProcess } from '../process.js';
import { DmaBufExport } from './dma-buf-export.js';
import type { HostFile } from './host-file.js';
import { DeviceMigration } from './migration.js';
import { setIrqs } from './set-irqs.js';

/** As Linux's vfio-pci: each region begins at its index times this. */
const REGION_STRIDE = 2 ** 40;
/** What an older caller's vfio_device_info has, before capabilities. */
const OLDEST_DEVICE_INFO = 16;

interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Through what a device was opened. */
export interface DeviceHolder {
  deviceOpened(): void;
  deviceClosed(): void;
}

export class VfioDeviceFile implements HostFile {
  readonly kind = 'vfio-device';
  readonly #holder: DeviceHolder;
  readonly #device: PhysicalDevice;
  readonly #config: VirtualConfig;
  readonly #interrupts: DeviceInterrupts;
  readonly #migration: DeviceMigration;
  readonly #dmaBufs: DmaBufExport;
  readonly #knobs: KernelKnobs;
  /** By BAR index; made at the first access. */
  readonly #bars: (AddressSpace | undefined)[] = [];

  constructor(kernel: Kernel, holder: DeviceHolder, device: PhysicalDevice) {
    this.#holder = holder;
    this.#knobs = kernel.knobs;
    this.#device = device;
    holder.deviceOpened();
    device.opened();
    this.#config = new VirtualConfig(device.fn, () => this.#reset(), kernel.knobs.release === '7.2');
    this.#interrupts = new DeviceInterrupts(device.fn, kernel.interrupts);
    this.#dmaBufs = new DmaBufExport(device);
    this.#migration = new DeviceMigration(device.device, () => device.dropTranslations());
  }

  ioctl(request: number, argument: IoctlArgument, caller: HostProcess): number {
    switch (request) {
      case VFIO_DEVICE_GET_INFO:
        return this.#getInfo(argument);
      case VFIO_DEVICE_GET_REGION_INFO:
        return this.#getRegionInfo(argument);
      case VFIO_DEVICE_GET_IRQ_INFO:
        return this.#getIrqInfo(argument);
      case VFIO_DEVICE_SET_IRQS:
        return setIrqs(caller, this.#interrupts, argument);
      case VFIO_DEVICE_RESET:
        return this.#device.resettable ? this.#reset() : -Errno.EINVAL;
      case VFIO_DEVICE_FEATURE:
        return this.#feature(argument, caller);
      case VFIO_DEVICE_BIND_IOMMUFD:
        // Only what was opened by itself is bound.
        return -Errno.EINVAL;
      default:
        return -Errno.ENOTTY;
    }
  }

  pread(buffer: Uint8Array, offset: number): number {
    return this.#access(buffer, offset, false);
  }

  pwrite(buffer: Uint8Array, offset: number): number {
    return this.#access(buffer, offset, true);
  }

  release(): void {
    this.#dmaBufs.move(false);
    this.#interrupts[Symbol.dispose]();
    for (const space of this.#bars) space?.[Symbol.dispose]();
    this.#device.closed();
    this.#holder.deviceClosed();
  }

  state(): unknown {
    return { device: this.#device.bdf, interrupts: this.#interrupts.state() };
  }

  #feature(argument: IoctlArgument, caller: HostProcess): number {
    const view = userStruct(argument, VfioDeviceFeature.size);
    if (typeof view === 'number') return view;
    const feature = VfioDeviceFeature.fields.flags.get(view) & VFIO_DEVICE_FEATURE_MASK;
    return feature === VFIO_DEVICE_FEATURE_DMA_BUF
      ? this.#dmaBufs.feature(argument, caller)
      : this.#migration.feature(argument, caller);
  }

  #reset(): number {
    this.#dmaBufs.move(false);
    this.#device.reset();
    this.#migration.reset();
    this.#interrupts.restore();
    this.#dmaBufs.move(this.#config.memoryEnabled);
    return 0;
  }

  #access(buffer: Uint8Array, offset: number, write: boolean): number {
    const index = Math.floor(offset / REGION_STRIDE);
    const at = offset - index * REGION_STRIDE;
    const size = this.#regionSize(index);
    if (index === VfioPciRegion.CONFIG && at + buffer.length > size) return -Errno.EFAULT;
    if (!Number.isSafeInteger(at) || at < 0 || at >= size) return -Errno.EINVAL;
    const piece = buffer.subarray(0, Math.min(buffer.length, size - at));
    if (index === VfioPciRegion.CONFIG) {
      if (write) this.#writeConfig(at, piece);
      else this.#config.read(at, piece);
      return piece.length;
    }
    return this.#accessBar(index, at, piece, write);
  }

  #writeConfig(at: number, piece: Uint8Array): void {
    this.#config.write(at, piece);
    this.#dmaBufs.move(this.#config.memoryEnabled);
  }

  #accessBar(index: number, at: number, piece: Uint8Array, write: boolean): number {
    const io = (this.#device.fn.config.get8(Config.BAR0 + 4 * index) & 1) !== 0;
    if (!io && !this.#config.memoryEnabled) return -Errno.EIO;
    const table = this.#msixTable(index);
    if (table !== undefined && at < table.end && at + piece.length > table.start) {
      // The table says where interrupts go: it is the kernel's.
      if (!write) piece.fill(0xff);
      return piece.length;
    }
    const space = (this.#bars[index] ??= barSpace(this.#device.fn.bars.region(index)!));
    const hi = Math.floor(at / 0x1_0000_0000);
    // Before 6.10 no register was reached by more than four bytes at once.
    const most = this.#knobs.release === '6.1' ? 4 : piece.length;
    for (let done = 0; done < piece.length; done += most) {
      const part = piece.subarray(done, done + most);
      const result = write ? space.write(hi, (at + done) >>> 0, part) : space.read(hi, (at + done) >>> 0, part);
      if (result !== MemTx.OK) return -Errno.EIO;
    }
    return piece.length;
  }

  #msixTable(index: number): ByteRange | undefined {
    const { config, capabilities } = this.#device.fn;
    const at = capabilities.find(Capability.MSIX);
    if (at === undefined || MsixLayout.fields.tableBar.get(config.words, at / 4) !== index) return undefined;
    const start = MsixLayout.fields.tableOffset.get(config.words, at / 4) * 8;
    return { start, end: start + (MsixLayout.fields.last.get(config.words, at / 4) + 1) * MsixEntry.bytes };
  }

  #regionSize(index: number): number {
    if (index === VfioPciRegion.CONFIG) return this.#config.size;
    return index <= VfioPciRegion.BAR5 ? (this.#device.fn.bars.region(index)?.size ?? 0) : 0;
  }

  #getInfo(argument: IoctlArgument): number {
    const view = userStruct(argument, OLDEST_DEVICE_INFO);
    if (typeof view === 'number') return view;
    const { flags, num_regions, num_irqs } = VfioDeviceInfo.fields;
    flags.set(view, VfioDeviceFlag.PCI | (this.#device.resettable ? VfioDeviceFlag.RESET : 0));
    num_regions.set(view, VFIO_PCI_NUM_REGIONS);
    num_irqs.set(view, VFIO_PCI_NUM_IRQS);
    return 0;
  }

  #getRegionInfo(argument: IoctlArgument): number {
    const view = userStruct(argument, VfioRegionInfo.size);
    if (typeof view === 'number') return view;
    const { fields } = VfioRegionInfo;
    const index = fields.index.get(view);
    if (index >= VfioPciRegion.VGA) return -Errno.EINVAL;
    const size = this.#regionSize(index);
    fields.size.setWide(view, size);
    fields.offset.setWide(view, index * REGION_STRIDE);
    fields.flags.set(view, size === 0 ? 0 : VfioRegionFlag.READ | VfioRegionFlag.WRITE);
    fields.cap_offset.set(view, 0);
    return 0;
  }

  #getIrqInfo(argument: IoctlArgument): number {
    const view = userStruct(argument, VfioIrqInfo.size);
    if (typeof view === 'number') return view;
    const { fields } = VfioIrqInfo;
    const index = fields.index.get(view);
    if (index >= VFIO_PCI_NUM_IRQS) return -Errno.EINVAL;
    const count = this.#interrupts.count(index);
    const message = index === VfioPciIrq.MSI || index === VfioPciIrq.MSIX;
    fields.flags.set(view, message ? VfioIrqInfoFlag.EVENTFD | VfioIrqInfoFlag.NORESIZE : 0);
    fields.count.set(view, count);
    return 0;
  }
}

function barSpace(region: Region): AddressSpace {
  return new AddressSpace(region.name, Region.alias(region.name, region, 0, region.size));
}
