/**
 * SET_IRQS. This server takes no descriptors, so it signals by messages, and there is nothing to keep: which vectors are enabled, and
 * where they go, the device's own capability says. A request is checked all the same.
 */
import { Errno } from '@remora/core';
import {
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VfioIrqSet,
  VfioIrqSetFlag,
  viewOf,
} from '@remora/uapi';
import type { ServedDevice } from './served-device.js';

const NOTHING = new Uint8Array(0);

/**
 * Carries out one request. EINVAL: not well-formed, or beyond what the device has; EOPNOTSUPP: masking, which message signalled
 * interrupts have in their capability, if they have it.
 */
export function setIrqs(device: ServedDevice, payload: Uint8Array): Uint8Array | number {
  const view = viewOf(payload);
  if (payload.length < VfioIrqSet.size) return Errno.EINVAL;
  const { argsz, flags, index, start, count } = VfioIrqSet.decode(view);
  const action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
  const data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  const vectors = device.interrupts[index];
  if (argsz < VfioIrqSet.size || (flags & ~(action | data)) !== 0) return Errno.EINVAL;
  if (!isOneBit(action) || !isOneBit(data) || vectors === undefined) return Errno.EINVAL;
  const disable = data === VfioIrqSetFlag.DATA_NONE && start === 0 && count === 0;
  if (!disable && (count === 0 || start + count > vectors)) return Errno.EINVAL;
  const raised = data === VfioIrqSetFlag.DATA_BOOL ? payload.subarray(VfioIrqSet.size) : undefined;
  if (raised !== undefined && raised.length !== count) return Errno.EINVAL;
  if (action !== VfioIrqSetFlag.ACTION_TRIGGER) return Errno.EOPNOTSUPP;
  if (data === VfioIrqSetFlag.DATA_EVENTFD) return NOTHING;
  for (let each = 0; each < count; each++) {
    if (raised === undefined || raised[each] !== 0) device.trigger?.(index, start + each);
  }
  return NOTHING;
}

function isOneBit(flags: number): boolean {
  return flags !== 0 && (flags & (flags - 1)) === 0;
}
