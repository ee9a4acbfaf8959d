/** A group that is set to an iommufd: its devices are bound as they are opened, and attached to the address space that VFIO's ioctls mean. */
import { NO_PASID } from '@remora/core';
import type { PhysicalDevice } from '../../devices/physical-device.js';
import type { DeviceHolder } from '../../files/vfio-device.js';
import type { GroupContainer, IommuGroup } from '../iommu-group.js';
import type { IommufdContext } from './context.js';
import { bindDevice } from './device.js';
import { compatIoas, ensureCompatIoas } from './vfio-ioas.js';

export class CompatContainer implements GroupContainer {
  readonly context: IommufdContext;

  constructor(context: IommufdContext) {
    this.context = context;
  }

  addGroup(): number {
    const failed = ensureCompatIoas(this.context);
    if (failed === 0) this.context.hold();
    return failed;
  }

  /** Devices that are open stay bound. */
  removeGroup(): void {
    this.context.drop();
  }

  lend(group: IommuGroup, physical: PhysicalDevice): DeviceHolder | number {
    const ioas = compatIoas(this.context);
    if (typeof ioas === 'number') return ioas;
    const device = bindDevice(this.context, physical);
    if (typeof device === 'number') return device;
    const attached = device.attach(NO_PASID, ioas.id);
    if (attached < 0) {
      device.unbind();
      return attached;
    }
    return {
      deviceOpened: () => {
        group.deviceBound();
      },
      deviceClosed: () => {
        device.unbind();
        group.deviceUnbound();
      },
    };
  }

  state(): unknown {
    return { iommufd: this.context.state() };
  }
}
