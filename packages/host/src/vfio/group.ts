/** A VFIO group: what the host's IOMMU cannot tell apart, and therefore assigns together. */
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VfioGroupFlag,
  VfioGroupStatus,
  viewOf,
} from '@remora/uapi';
import type { VfioContainer } from './container.js';
import { VfioDevice } from './device.js';
import { expectOk, VfioError } from './vfio-error.js';

export class VfioGroup {
  readonly name: string;
  readonly number: number;
  readonly container: VfioContainer;
  readonly #fd: number;
  readonly #devices = new Set<VfioDevice>();
  #attached = false;

  private constructor(container: VfioContainer, number: number, fd: number) {
    this.container = container;
    this.number = number;
    this.name = `group ${number}`;
    this.#fd = fd;
  }

  /** Opens /dev/vfio/`number`; used by VfioContainer.attachGroup. @throws VfioError if it cannot, or the group is not viable. */
  static open(container: VfioContainer, number: number): VfioGroup {
    const { syscalls } = container;
    const path = `/dev/vfio/${number}`;
    const group = new VfioGroup(container, number, expectOk(`open ${path}`, syscalls.open(path)));
    try {
      group.#checkViable();
    } catch (error) {
      group.close();
      throw error;
    }
    return group;
  }

  get devices(): ReadonlySet<VfioDevice> {
    return this.#devices;
  }

  /** @throws VfioError if the host refuses. */
  setContainer(): void {
    const argument = new Uint8Array(4);
    viewOf(argument).setInt32(0, this.container.fd, true);
    const result = this.container.syscalls.ioctl(this.#fd, VFIO_GROUP_SET_CONTAINER, argument);
    expectOk(`${this.name}: VFIO_GROUP_SET_CONTAINER ${this.container.name}`, result);
    this.#attached = true;
  }

  /**
   * Opens a device of the group by its address on the host, `0000:3f:00.0`.
   * @throws VfioError if it is not in this group, or the host refuses.
   */
  openDevice(bdf: string): VfioDevice {
    const { syscalls } = this.container;
    const name = new TextEncoder().encode(`${bdf}\0`);
    const fd = expectOk(`${this.name}: open ${bdf}`, syscalls.ioctl(this.#fd, VFIO_GROUP_GET_DEVICE_FD, name));
    let device: VfioDevice;
    try {
      device = new VfioDevice(syscalls, fd, bdf, () => this.#closed(device));
    } catch (error) {
      syscalls.close(fd);
      throw error;
    }
    this.#devices.add(device);
    const { vfio_get_device: opened } = this.container.trace;
    if (opened.on) opened.emit(bdf, device.flags, device.regions.length, device.irqs.length);
    this.container.deviceJoined();
    return device;
  }

  /** Closes the devices that are open, leaves the container and closes the group. */
  close(): void {
    const { syscalls } = this.container;
    for (const device of [...this.#devices]) device[Symbol.dispose]();
    if (this.#attached) syscalls.ioctl(this.#fd, VFIO_GROUP_UNSET_CONTAINER);
    this.#attached = false;
    const { vfio_put_group: closed } = this.container.trace;
    if (closed.on) closed.emit(this.#fd);
    syscalls.close(this.#fd);
  }

  #closed(device: VfioDevice): void {
    this.#devices.delete(device);
    const { vfio_put_base_device: closed } = this.container.trace;
    if (closed.on) closed.emit(device.fd);
  }

  #checkViable(): void {
    const bytes = VfioGroupStatus.encode({ argsz: VfioGroupStatus.size });
    expectOk(
      `${this.name}: VFIO_GROUP_GET_STATUS`,
      this.container.syscalls.ioctl(this.#fd, VFIO_GROUP_GET_STATUS, bytes),
    );
    if ((VfioGroupStatus.fields.flags.get(viewOf(bytes)) & VfioGroupFlag.VIABLE) === 0) {
      throw new VfioError(this.name, 0, 'not viable: other devices of the group are bound to other drivers');
    }
  }
}
