/** A lent device, bound to an iommufd: user space names it by its id. */
import { Errno, NO_PASID } from '@remora/core';
import type { PhysicalDevice } from '../../devices/physical-device.js';
import type { IommuGroup } from '../iommu-group.js';
import type { IommufdContext } from './context.js';
import { attachable } from './hwpt.js';
import { IommufdObject } from './objects.js';

export class IommufdDevice extends IommufdObject {
  readonly kind = 'device';
  readonly context: IommufdContext;
  readonly physical: PhysicalDevice;
  readonly group: IommuGroup;
  /** Its virtual device: goes along with it, and leaves a tombstone. */
  vdevice: IommufdObject | undefined;

  constructor(context: IommufdContext, physical: PhysicalDevice, group: IommuGroup) {
    super();
    this.context = context;
    this.physical = physical;
    this.group = group;
  }

  get requesterId(): number {
    return this.physical.requesterId;
  }

  /** How many bits its PASIDs have: none while PASIDs are not enabled. */
  get pasidBits(): number {
    if (!this.physical.fn.pasidEnabled) return 0;
    return Math.min(this.physical.pasidBits, this.context.kernel.iommu!.driver.pasidBits);
  }

  /**
   * The page table, or the address space, with the id `ptId` serves it at `pasid` (NO_PASID: without one) from now on, in place of what did. Returns
   * the page table's id. -ENOENT for an id that is not there; -EINVAL for another object, for a PASID that it cannot have, and as
   * Attachments.attach. PASID 0 is what Linux calls none: -EBUSY where requests without one are served already.
   */
  attach(pasid: number, ptId: number): number {
    const { kernel, objects } = this.context;
    const possible = pasid === NO_PASID || (pasid > 0 && pasid < 2 ** this.pasidBits);
    const taken = pasid === 0 && kernel.attachments.of(this, NO_PASID) !== undefined;
    const before = kernel.attachments.of(this, pasid)?.hwpt.id ?? 0;
    const pt = objects.get(ptId, IommufdObject);
    const result =
      taken && typeof pt !== 'number'
        ? -Errno.EBUSY
        : attachable(this, pasid, pt, hwpt =>
            possible ? kernel.attachments.attach(this, pasid, hwpt) : -Errno.EINVAL,
          );
    kernel.note('attach', { device: this.physical.bdf, pasid, pt: ptId, before, result });
    return result;
  }

  /** 0, also if nothing served it. */
  detach(pasid: number): number {
    const { kernel } = this.context;
    const result = kernel.attachments.detach(this, pasid);
    kernel.note('detach', { device: this.physical.bdf, pasid, result });
    return result;
  }

  /** Detached everywhere, and no object any more. */
  unbind(): void {
    const { kernel, objects } = this.context;
    for (const pasid of kernel.attachments.pasidsOf(this).reverse()) this.detach(pasid);
    if (this.vdevice !== undefined) objects.bury(this.vdevice);
    this.users--;
    objects.remove(this);
    this.physical.setPasidEnabled(false);
    this.group.disclaim(this);
    kernel.note('unbind-iommufd', { device: this.physical.bdf, id: this.id });
    this.context.drop();
  }

  override release(): void {}

  override state(): unknown {
    return { device: this.physical.bdf, attached: this.context.kernel.attachments.state(this) };
  }
}

/**
 * Binds a device; unbind() is the way back, DESTROY is not (-EBUSY). -EBUSY if its group is somebody else's, -ENODEV if the host's IOMMU offers nothing
 * to user space.
 */
export function bindDevice(context: IommufdContext, physical: PhysicalDevice): IommufdDevice | number {
  const { kernel } = context;
  const group = kernel.groups.get(physical.groupNumber);
  if (group === undefined || kernel.iommu?.driver.user === undefined) return -Errno.ENODEV;
  const device = new IommufdDevice(context, physical, group);
  const error = group.claim(device);
  if (error !== 0) return error;
  const failed = context.objects.add(device);
  if (failed !== 0) {
    group.disclaim(device);
    return failed;
  }
  context.hold();
  device.users++;
  physical.setPasidEnabled(kernel.iommu.driver.pasidBits > 0);
  kernel.note('bind-iommufd', { device: physical.bdf, id: device.id });
  return device;
}
