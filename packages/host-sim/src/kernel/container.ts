/** A VFIO container in the kernel: alive while a descriptor or a group holds it. */
import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  type UapiVariant,
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_GET_VMID,
  VFIO_IOMMU_SET_VMID,
  VFIO_NESTING_IOMMU_UAPI,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from '@remora/uapi';
import type { HostFile } from '../files/host-file.js';
import type { DeviceHolder } from '../files/vfio-device.js';
import type { HostProcess } from '../process.js';
import { ContainerVmid } from './container-vmid.js';
import type { GroupContainer, IommuGroup } from './iommu-group.js';
import type { Kernel } from './kernel.js';
import { Type1 } from './type1.js';
import { userInteger } from './user.js';

export class Container implements GroupContainer {
  readonly #kernel: Kernel;
  readonly #opener: HostProcess;
  /** Fixed when the container is opened. */
  readonly #uapi: UapiVariant;
  readonly #groups: IommuGroup[] = [];
  readonly #vmid: ContainerVmid | undefined;
  #backend: Type1 | undefined;

  constructor(kernel: Kernel, opener: HostProcess) {
    this.#kernel = kernel;
    this.#opener = opener;
    this.#uapi = kernel.knobs.uapi;
    this.#vmid = this.#uapi === 'vmid-rfc-v2' ? new ContainerVmid(kernel, opener) : undefined;
  }

  /** Open devices keep the container, through their group. */
  lend(group: IommuGroup): DeviceHolder | number {
    return this.#backend === undefined ? -Errno.EINVAL : group;
  }

  /** With an IOMMU set already, the group joins it at once; if that fails, it is not added. */
  addGroup(group: IommuGroup): number {
    const error = this.#backend?.attach(group) ?? 0;
    if (error === 0) this.#groups.push(group);
    return error;
  }

  /** The last group takes the IOMMU backend along. */
  removeGroup(group: IommuGroup): void {
    this.#groups.splice(this.#groups.indexOf(group), 1);
    this.#backend?.detach(group);
    if (this.#groups.length > 0) return;
    if (this.#backend !== undefined) this.#release(this.#backend);
    this.#backend = undefined;
  }

  ioctl(request: number, argument: IoctlArgument): number {
    switch (request) {
      case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
      case VFIO_CHECK_EXTENSION:
        return this.#checkExtension(userInteger(argument));
      case VFIO_SET_IOMMU:
        return this.#setIommu(userInteger(argument));
    }
    if (this.#vmid !== undefined) {
      if (request === VFIO_IOMMU_GET_VMID) return this.#vmid.tell(argument);
      if (request === VFIO_IOMMU_SET_VMID) return this.#vmid.set(userInteger(argument));
    }
    return this.#backend?.ioctl(request, argument) ?? -Errno.EINVAL;
  }

  /** What it is, and which groups have it. */
  outline(): Record<string, unknown> {
    const vmid = this.#vmid === undefined ? {} : { vmid: this.#vmid.number };
    return { uapi: this.#uapi, groups: this.#groups.map(group => group.number), ...vmid };
  }

  state(): unknown {
    return { ...this.outline(), backend: this.#backend?.state() ?? null };
  }

  #checkExtension(extension: number | undefined): number {
    const { knobs } = this.#kernel;
    switch (extension) {
      case VFIO_TYPE1_IOMMU:
      case VFIO_TYPE1v2_IOMMU:
        return 1;
      case VFIO_TYPE1_NESTING_IOMMU:
        // Linux offered it long after no IOMMU took it any more.
        if (knobs.release !== 'rfc') return Number(knobs.release === '6.1');
        return Number(knobs.nestingType && this.#kernel.stage1Format !== 0);
      case VFIO_NESTING_IOMMU_UAPI:
        // Linux gave the number to something else: VFIO_UNMAP_ALL.
        return knobs.release === 'rfc' ? knobs.nestingUapiVersion : 1;
      default:
        return 0;
    }
  }

  #setIommu(type: number | undefined): number {
    if (this.#groups.length === 0 || this.#backend !== undefined) return -Errno.EINVAL;
    const known = type === VFIO_TYPE1_IOMMU || type === VFIO_TYPE1v2_IOMMU || type === VFIO_TYPE1_NESTING_IOMMU;
    if (!known || this.#checkExtension(type) <= 0) return -Errno.ENODEV;
    if (type === VFIO_TYPE1_NESTING_IOMMU && this.#kernel.knobs.release !== 'rfc') return -Errno.EINVAL;
    const domain = this.#kernel.iommu!.driver.createDomain();
    if (typeof domain === 'number') {
      this.#kernel.note('no-domain', { result: domain });
      return domain;
    }
    const backend = new Type1(this.#kernel, this.#opener, domain, type, this.#uapi);
    // Other types keep the number that they were given to themselves (vsva.md 5.2, B06).
    const vmid = backend.nested ? this.#vmid : undefined;
    let error = vmid?.give(domain) ?? 0;
    for (const group of this.#groups) error ||= backend.attach(group);
    if (error !== 0 && vmid?.survives() === false) return error;
    error ||= vmid?.fetch(domain) ?? 0;
    if (error === 0) this.#backend = backend;
    else this.#release(backend);
    return error;
  }

  #release(backend: Type1): void {
    this.#vmid?.leave(backend.domain);
    backend.release();
  }
}

/** /dev/vfio/vfio, opened. */
export class ContainerFile implements HostFile {
  readonly kind = 'vfio-container';
  readonly container: Container;

  constructor(container: Container) {
    this.container = container;
  }

  ioctl(request: number, argument: IoctlArgument): number {
    return this.container.ioctl(request, argument);
  }

  /** Groups that are still attached keep the container alive. */
  release(): void {}

  /** The rest is told where the groups are: they keep the container when its descriptor is closed. */
  state(): unknown {
    return this.container.outline();
  }
}
