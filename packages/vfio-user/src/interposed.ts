/** Which requests can be carried out while a device waits for a transfer by message, in the middle of something. */
import { viewOf } from '@remora/uapi';
import { RegionAccess, VfioUserCommand } from './protocol.js';
import type { ServedDevice } from './served-device.js';

/**
 * Whether `command` changes nothing in the device, and finds it able to answer. `executing`: what the device does is a register access, during
 * which most registers refuse a second one.
 */
export function canInterpose(
  device: ServedDevice,
  { command, payload }: { readonly command: number; readonly payload: Uint8Array },
  executing: boolean,
): boolean {
  switch (command) {
    case VfioUserCommand.DMA_MAP:
    case VfioUserCommand.DMA_UNMAP:
    case VfioUserCommand.DEVICE_GET_INFO:
    case VfioUserCommand.DEVICE_GET_REGION_INFO:
    case VfioUserCommand.DEVICE_GET_IRQ_INFO:
      return true;
    case VfioUserCommand.REGION_READ: {
      if (!executing || payload.length < RegionAccess.size) return true;
      return device.regions[RegionAccess.fields.region.get(viewOf(payload))]?.reentrant !== false;
    }
    default:
      return false;
  }
}
