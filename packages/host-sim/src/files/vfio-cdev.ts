/**
 * /dev/vfio/devices/vfioN, opened: a device without its group. It answers nothing until it is bound to an iommufd; then it is attached to page tables
 * by its own ioctls, and is a VFIO device like any other.
 */
import { Errno, NO_PASID } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VfioDeviceAttachFlag,
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindFlag,
  VfioDeviceBindIommufd,
  VfioDeviceDetachFlag,
  VfioDeviceDetachIommufdPt,
} from '@remora/uapi';
import type { PhysicalDevice } from '../devices/physical-device.js';
import type { IommuGroup } from '../kernel/iommu-group.js';
import { bindDevice, type IommufdDevice } from '../kernel/iommufd/device.js';
import { IommufdFile } from '../kernel/iommufd/file.js';
import type { Kernel } from '../kernel/kernel.js';
import { userStruct } from '../kernel/user.js';
import type { HostProcess } from '../process.js';
import type { HostFile } from './host-file.js';
import { VfioDeviceFile } from './vfio-device.js';

/** Up to the members that the first kernels with these ioctls had. */
const BIND_MINIMUM = 16;
const ATTACH_MINIMUM = 12;
const DETACH_MINIMUM = 8;
const TOKEN_BYTES = 16;

interface Bound {
  readonly device: IommufdDevice;
  readonly file: VfioDeviceFile;
}

export class VfioCdevFile implements HostFile {
  readonly kind = 'vfio-cdev';
  readonly #kernel: Kernel;
  readonly #physical: PhysicalDevice;
  readonly #group: IommuGroup;
  #bound: Bound | undefined;

  constructor(kernel: Kernel, physical: PhysicalDevice, group: IommuGroup) {
    this.#kernel = kernel;
    this.#physical = physical;
    this.#group = group;
  }

  ioctl(request: number, argument: IoctlArgument, caller: HostProcess): number {
    if (request === VFIO_DEVICE_BIND_IOMMUFD) return this.#bind(argument, caller);
    if (this.#bound === undefined) return -Errno.EINVAL;
    const { device, file } = this.#bound;
    if (request === VFIO_DEVICE_ATTACH_IOMMUFD_PT) return attach(device, argument, caller);
    return request === VFIO_DEVICE_DETACH_IOMMUFD_PT ? detach(device, argument) : file.ioctl(request, argument, caller);
  }

  pread(buffer: Uint8Array, offset: number): number {
    return this.#bound?.file.pread(buffer, offset) ?? -Errno.EINVAL;
  }

  pwrite(buffer: Uint8Array, offset: number): number {
    return this.#bound?.file.pwrite(buffer, offset) ?? -Errno.EINVAL;
  }

  release(): void {
    this.#bound?.file.release();
    this.#bound = undefined;
  }

  state(): unknown {
    const { bdf } = this.#physical;
    return this.#bound === undefined
      ? { device: bdf }
      : { ...(this.#bound.file.state() as object), id: this.#bound.device.id };
  }

  #bind(argument: IoctlArgument, caller: HostProcess): number {
    const view = userStruct(argument, BIND_MINIMUM);
    if (typeof view === 'number') return view;
    const { flags, iommufd, out_devid } = VfioDeviceBindIommufd.fields;
    const flag = flags.get(view);
    const fd = iommufd.get(view);
    if ((flag & ~VfioDeviceBindFlag.TOKEN) !== 0 || fd < 0) return -Errno.EINVAL;
    const token = flag === 0 ? 0 : refuseToken(view, caller);
    if (token !== 0) return token;
    // Bound already, here or through another descriptor: a device is opened by one at a time.
    const blocked = this.#bound === undefined && !this.#physical.isOpen ? this.#group.cdevBound() : -Errno.EINVAL;
    if (blocked !== 0) return blocked;
    const bound = this.#bindTo(fd, caller);
    if (typeof bound === 'number') {
      this.#group.deviceUnbound();
      return bound;
    }
    this.#bound = bound;
    out_devid.set(view, bound.device.id);
    return 0;
  }

  #bindTo(fd: number, caller: HostProcess): Bound | number {
    const file = caller.file(fd);
    if (file === undefined) return -Errno.EBADF;
    if (!(file instanceof IommufdFile)) return -Errno.EBADFD;
    const device = bindDevice(file.context, this.#physical);
    if (typeof device === 'number') return device;
    const holder = {
      deviceOpened: () => undefined,
      deviceClosed: () => {
        device.unbind();
        this.#group.deviceUnbound();
      },
    };
    return { device, file: new VfioDeviceFile(this.#kernel, holder, this.#physical) };
  }
}

/** Only virtual functions whose physical function demands one have a token: -EFAULT for one that is not there, -EINVAL for one that is. */
function refuseToken(view: DataView, caller: HostProcess): number {
  const { token_uuid_ptr } = VfioDeviceBindIommufd.fields;
  if (view.byteLength < VfioDeviceBindIommufd.size || view.getUint32(0, true) < VfioDeviceBindIommufd.size) {
    return -Errno.EINVAL;
  }
  const error = caller.memory.read(token_uuid_ptr.number(view), new Uint8Array(TOKEN_BYTES));
  return error === 0 ? -Errno.EINVAL : error;
}

function attach(device: IommufdDevice, argument: IoctlArgument, caller: HostProcess): number {
  const view = userStruct(argument, ATTACH_MINIMUM);
  if (typeof view === 'number') return view;
  const { flags, pt_id, pasid } = VfioDeviceAttachIommufdPt.fields;
  const flag = flags.get(view);
  if ((flag & ~VfioDeviceAttachFlag.PASID) !== 0) return -Errno.EINVAL;
  const whole = flag === 0 ? view : userStruct(argument, VfioDeviceAttachIommufdPt.size);
  if (typeof whole === 'number') return whole;
  device.context.process = caller;
  const result = device.attach(flag === 0 ? NO_PASID : pasid.get(view), pt_id.get(view));
  if (result < 0) return result;
  pt_id.set(view, result);
  return 0;
}

function detach(device: IommufdDevice, argument: IoctlArgument): number {
  const view = userStruct(argument, DETACH_MINIMUM);
  if (typeof view === 'number') return view;
  const { flags, pasid } = VfioDeviceDetachIommufdPt.fields;
  const flag = flags.get(view);
  if ((flag & ~VfioDeviceDetachFlag.PASID) !== 0) return -Errno.EINVAL;
  const whole = flag === 0 ? view : userStruct(argument, VfioDeviceDetachIommufdPt.size);
  return typeof whole === 'number' ? whole : device.detach(flag === 0 ? NO_PASID : pasid.get(view));
}
