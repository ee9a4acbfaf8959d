/** A device that is opened by itself, /dev/vfio/devices/vfioN, and bound to an iommufd. */
import { Errno } from '@remora/core';
import {
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VfioDeviceAttachFlag,
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindIommufd,
  VfioDeviceDetachFlag,
  VfioDeviceDetachIommufdPt,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';
import { VfioDevice } from '../vfio/device.js';
import { requireVfioPci } from '../vfio/sysfs.js';
import { expectOk, VfioError } from '../vfio/vfio-error.js';
import { type HardwareInfo, readHardwareInfo } from './hardware-info.js';
import type { Iommufd } from './iommufd.js';

export class BoundDevice implements Disposable {
  readonly bdf: string;
  readonly device: VfioDevice;
  /** The object of the iommufd that stands for it. */
  readonly id: number;
  readonly hardware: HardwareInfo;
  readonly #syscalls: HostSyscalls;

  private constructor(syscalls: HostSyscalls, device: VfioDevice, id: number, hardware: HardwareInfo) {
    this.#syscalls = syscalls;
    this.bdf = device.bdf;
    this.device = device;
    this.id = id;
    this.hardware = hardware;
  }

  /**
   * Opens the device at `bdf` of the host (`0000:3f:00.0`). `closed` is called after its descriptor is closed.
   * @throws VfioError if the host has no such device, has no device files, or does not lend it; nothing stays open then.
   */
  static open(iommufd: Iommufd, bdf: string, closed: () => void): BoundDevice {
    const { syscalls } = iommufd;
    const path = deviceFile(syscalls, bdf);
    const fd = expectOk(`${bdf}: open ${path}`, syscalls.open(path));
    try {
      const bytes = VfioDeviceBindIommufd.encode({ argsz: VfioDeviceBindIommufd.size, iommufd: iommufd.fd });
      expectOk(`${bdf}: VFIO_DEVICE_BIND_IOMMUFD`, syscalls.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, bytes));
      const id = VfioDeviceBindIommufd.fields.out_devid.get(viewOf(bytes));
      const hardware = readHardwareInfo(iommufd, id);
      if (typeof hardware === 'number') throw new VfioError(`${bdf}: IOMMU_GET_HW_INFO`, hardware);
      return new BoundDevice(syscalls, new VfioDevice(syscalls, fd, bdf, closed), id, hardware);
    } catch (error) {
      syscalls.close(fd);
      throw error;
    }
  }

  /**
   * What serves its requests from now on, with `pasid` (0: without one): an IOAS or HWPT. What did before is replaced at once. 0 or a negated errno.
   */
  attach(pageTable: number, pasid = 0): number {
    const bytes = VfioDeviceAttachIommufdPt.encode({
      argsz: VfioDeviceAttachIommufdPt.size,
      flags: pasid === 0 ? 0 : VfioDeviceAttachFlag.PASID,
      pt_id: pageTable,
      pasid,
    });
    return this.#ioctl(VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytes);
  }

  /** Nothing serves its requests any more, with `pasid` (0: without one): they are blocked. 0 or a negated errno. */
  detach(pasid = 0): number {
    const bytes = VfioDeviceDetachIommufdPt.encode({
      argsz: VfioDeviceDetachIommufdPt.size,
      flags: pasid === 0 ? 0 : VfioDeviceDetachFlag.PASID,
      pasid,
    });
    return this.#ioctl(VFIO_DEVICE_DETACH_IOMMUFD_PT, bytes);
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
  }

  #ioctl(request: number, bytes: Uint8Array): number {
    const result = this.#syscalls.ioctl(this.device.fd, request, bytes);
    return result < 0 ? result : 0;
  }
}

/** As QEMU finds it: the device's directory names it. */
function deviceFile(syscalls: HostSyscalls, bdf: string): string {
  requireVfioPci(syscalls, bdf);
  const directory = `/sys/bus/pci/devices/${bdf}/vfio-dev`;
  const names = syscalls.readdir(directory);
  const name = typeof names === 'number' ? undefined : names.find(each => /^vfio\d+$/.test(each));
  if (name !== undefined) return `/dev/vfio/devices/${name}`;
  const result = typeof names === 'number' ? names : -Errno.ENOENT;
  throw new VfioError(bdf, result, "it has no device file (the host's kernel needs CONFIG_VFIO_DEVICE_CDEV)");
}
