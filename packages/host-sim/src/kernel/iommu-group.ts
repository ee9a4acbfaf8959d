/** An IOMMU group: devices that the host's IOMMU cannot tell apart, or that must be lent together. */
import { Errno } from '@remora/core';
import type { PhysicalDevice } from '../devices/physical-device.js';
import type { Container } from './container.js';

export class IommuGroup {
  readonly number: number;
  readonly devices: PhysicalDevice[] = [];
  #container: Container | undefined;
  /** The container is in use: once for being set, and once for each open device. */
  #users = 0;
  #opened = false;

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

  /** A group is opened by one at a time, and not while devices of an earlier opening are in use. */
  open(): number {
    if (this.#opened || this.#container !== undefined) return -Errno.EBUSY;
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
