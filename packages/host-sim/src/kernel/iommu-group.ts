/** An IOMMU group: devices that the host's IOMMU cannot tell apart, or that must be lent together. */
import { Errno } from '@remora/core';
import type { PhysicalDevice } from '../devices/physical-device.js';
import type { DeviceHolder } from '../files/vfio-device.js';
import type { IommufdContext } from './iommufd/context.js';
import type { IommufdDevice } from './iommufd/device.js';

/** What a group can be set to. */
export interface GroupContainer {
  /** Of an iommufd. */
  readonly context?: IommufdContext;
  addGroup(group: IommuGroup): number;
  removeGroup(group: IommuGroup): void;
  /** Lends a device of the group: through what it is then open, or -errno; -EINVAL before there is an IOMMU for it. */
  lend(group: IommuGroup, device: PhysicalDevice): DeviceHolder | number;
  /** JSON-able, for dumps. */
  state(): unknown;
}

export class IommuGroup {
  readonly number: number;
  readonly devices: PhysicalDevice[] = [];
  #container: GroupContainer | undefined;
  /** The container is in use: once for being set, and once for each open device. */
  #users = 0;
  #opened = false;
  /** Devices of it that are bound to an iommufd: opened by themselves, or through the group. */
  #bound = 0;
  readonly #claims = new Set<IommufdDevice>();

  constructor(number: number) {
    this.number = number;
  }

  get container(): GroupContainer | undefined {
    return this.#container;
  }

  /** Whether all devices are bound to vfio-pci, or to nothing. */
  get viable(): boolean {
    return this.devices.every(device => device.driver === 'vfio-pci' || device.driver === undefined);
  }

  /** Whether there is a /dev/vfio entry. */
  get offered(): boolean {
    return this.devices.some(device => device.driver === 'vfio-pci');
  }

  /** A group is opened by one at a time, and not while devices of an earlier opening, or bound to an iommufd, are in use. */
  open(): number {
    if (this.#opened || this.#container !== undefined || this.#bound > 0) return -Errno.EBUSY;
    this.#opened = true;
    return 0;
  }

  close(): void {
    this.#opened = false;
    if (this.#container !== undefined) this.#leave();
  }

  setContainer(container: GroupContainer): number {
    if (this.#container !== undefined) return -Errno.EINVAL;
    const error = container.addGroup(this);
    if (error !== 0) return error;
    this.#container = container;
    this.#users = 1;
    return 0;
  }

  unsetContainer(): number {
    if (this.#container === undefined) return -Errno.EINVAL;
    if (this.#users > 1) return -Errno.EBUSY;
    this.#leave();
    return 0;
  }

  /** A device that was opened by itself is bound: -EBUSY while the group is open. */
  cdevBound(): number {
    if (this.#opened) return -Errno.EBUSY;
    this.deviceBound();
    return 0;
  }

  deviceBound(): void {
    this.#bound++;
  }

  deviceUnbound(): void {
    this.#bound--;
  }

  /** An iommufd takes a device of the group: -EBUSY if a container has it, another iommufd has one of its devices, or it is in other use. */
  claim(device: IommufdDevice): number {
    const strangers = [...this.#claims].some(
      ({ context, physical }) => context !== device.context || physical === device.physical,
    );
    const elsewhere = this.#container !== undefined && this.#container.context !== device.context;
    if (elsewhere || strangers || !this.viable) return -Errno.EBUSY;
    this.#claims.add(device);
    return 0;
  }

  disclaim(device: IommufdDevice): void {
    this.#claims.delete(device);
  }

  deviceOpened(): void {
    this.#users++;
  }

  deviceClosed(): void {
    this.#leave();
  }

  #leave(): void {
    if (--this.#users > 0) return;
    const container = this.#container!;
    this.#container = undefined;
    container.removeGroup(this);
  }
}
