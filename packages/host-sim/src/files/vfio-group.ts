import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VfioGroupFlag,
  VfioGroupStatus,
} from '@remora/uapi';
import { ContainerFile } from '../kernel/container.js';
import type { IommuGroup } from '../kernel/iommu-group.js';
import { CompatContainer } from '../kernel/iommufd/compat-container.js';
import { IommufdFile } from '../kernel/iommufd/file.js';
import type { Kernel } from '../kernel/kernel.js';
import { userBytes, userStruct } from '../kernel/user.js';
import type { HostProcess } from '../process.js';
import type { HostFile } from './host-file.js';
import { VfioDeviceFile } from './vfio-device.js';

/** /dev/vfio/<number>, opened. */
export class VfioGroupFile implements HostFile {
  readonly kind = 'vfio-group';
  readonly #kernel: Kernel;
  readonly #group: IommuGroup;

  constructor(kernel: Kernel, group: IommuGroup) {
    this.#kernel = kernel;
    this.#group = group;
  }

  ioctl(request: number, argument: IoctlArgument, caller: HostProcess): number {
    switch (request) {
      case VFIO_GROUP_GET_STATUS:
        return this.#getStatus(argument);
      case VFIO_GROUP_SET_CONTAINER:
        return this.#setContainer(argument, caller);
      case VFIO_GROUP_UNSET_CONTAINER:
        return this.#group.unsetContainer();
      case VFIO_GROUP_GET_DEVICE_FD:
        return this.#getDevice(argument, caller);
      default:
        return -Errno.ENOTTY;
    }
  }

  release(): void {
    this.#group.close();
  }

  state(): unknown {
    return { group: this.#group.number, containerSet: this.#group.container !== undefined };
  }

  #getStatus(argument: IoctlArgument): number {
    const view = userStruct(argument, VfioGroupStatus.size);
    if (typeof view === 'number') return view;
    const viable = this.#group.viable ? VfioGroupFlag.VIABLE : 0;
    const set = this.#group.container === undefined ? 0 : VfioGroupFlag.CONTAINER_SET;
    VfioGroupStatus.fields.flags.set(view, viable | set);
    return 0;
  }

  #setContainer(argument: IoctlArgument, caller: HostProcess): number {
    const view = userBytes(argument, 4);
    if (typeof view === 'number') return view;
    const file = caller.file(view.getInt32(0, true));
    if (file === undefined) return -Errno.EBADF;
    if (file instanceof IommufdFile) return this.#group.setContainer(new CompatContainer(file.context));
    if (file instanceof ContainerFile) return this.#group.setContainer(file.container);
    return this.#kernel.knobs.release === '7.2' ? -Errno.EBADFD : -Errno.EINVAL;
  }

  #getDevice(argument: IoctlArgument, caller: HostProcess): number {
    const view = userBytes(argument, 1);
    if (typeof view === 'number') return view;
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const end = bytes.indexOf(0);
    if (end < 0) return -Errno.EFAULT;
    const { container, viable } = this.#group;
    if (container === undefined || !viable) return -Errno.EINVAL;
    const name = new TextDecoder().decode(bytes.subarray(0, end));
    const device = this.#group.devices.find(({ bdf, driver }) => bdf === name && driver === 'vfio-pci');
    if (device === undefined) return -Errno.ENODEV;
    const holder = container.lend(this.#group, device);
    if (typeof holder === 'number') return holder;
    return caller.addFile(new VfioDeviceFile(this.#kernel, holder, device));
  }
}
