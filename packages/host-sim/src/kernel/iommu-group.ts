/** An IOMMU group: devices that the host's IOMMU cannot tell apart, or that must be lent together. */
import { Errno } from '@remora/core';
import type { PhysicalDevice } from '../devices/physical-device.js';
import type { Container } from './container.js';
import type { IommufdDevice } from './iommufd/device.js';

export class IommuGroup {
  readonly number: number;
  readonly devices: PhysicalDevice[] = [];
  #container: Container | undefined;
  /** The container is in use: once for being set, and once for each open device. */
  #users = 0;
  #opened = false;
  /** Devices of it that are opened by themselves and bound. */
  #cdevs = 0;
  readonly #claims = new Set<IommufdDevice>();

  constructor(number: number) {
    this.number = number;
  }

  get container(): Container | undefined {
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

  /** A group is opened by one at a time, and not while devices of an earlier opening, or opened by themselves, are in use. */
  open(): number {
    if (this.#opened || this.#container !== undefined || this.#cdevs > 0) return -Errno.EBUSY;
    this.#opened = true;
    return 0;
  }

  close(): void {
    this.#opened = false;
    if (this.#container !== undefined) this.#leave();
  }

  setContainer(container: Container): number {
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
    this.#cdevs++;
    return 0;
  }

  cdevUnbound(): void {
    this.#cdevs--;
  }

  /** An iommufd takes a device of the group: -EBUSY if a container has it, another iommufd has one of its devices, or it is in other use. */
  claim(device: IommufdDevice): number {
    const strangers = [...this.#claims].some(
      ({ context, physical }) => context !== device.context || physical === device.physical,
    );
    if (this.#container !== undefined || strangers || !this.viable) return -Errno.EBUSY;
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
