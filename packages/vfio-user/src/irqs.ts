/**
 * SET_IRQS. A client that passes descriptors has vectors signalled by them. For others this server signals by messages, and there is
 * nothing to keep: which vectors are enabled, and where they go, the device's own capability says. A request is checked all the same.
 */
import { Errno } from '@remora/core';
import {
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VfioIrqInfoFlag,
  VfioIrqSet,
  VfioIrqSetFlag,
  VfioPciIrq,
  viewOf,
} from '@remora/uapi';
import type { EventLines } from './descriptors/event-lines.js';
import type { PassedDescriptor } from './descriptors/passed.js';
import type { ServedDevice } from './served-device.js';

const NOTHING = new Uint8Array(0);

/** VfioIrqInfoFlag bits of a kind of interrupt that the device has, for a client that passes descriptors, or does not. */
export function irqInfoFlags(index: number, descriptors: boolean): number {
  if (!descriptors) return VfioIrqInfoFlag.NORESIZE;
  if (index !== VfioPciIrq.INTX) return VfioIrqInfoFlag.EVENTFD | VfioIrqInfoFlag.NORESIZE;
  return VfioIrqInfoFlag.EVENTFD | VfioIrqInfoFlag.MASKABLE | VfioIrqInfoFlag.AUTOMASKED;
}

/**
 * Carries out one request. EINVAL: not well-formed, or beyond what the device has, or descriptors that are not as many as vectors or no
 * event descriptors; EOPNOTSUPP: masking without descriptors, as message signalled interrupts have that in their capability, if they have
 * it; and masking by a descriptor.
 */
export function setIrqs(
  device: ServedDevice,
  payload: Uint8Array,
  lines?: EventLines,
  passed: readonly PassedDescriptor[] = [],
): Uint8Array | number {
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
  if (passed.length > 0 && data !== VfioIrqSetFlag.DATA_EVENTFD) return Errno.EINVAL;
  if (lines === undefined && action !== VfioIrqSetFlag.ACTION_TRIGGER) return Errno.EOPNOTSUPP;
  if (data === VfioIrqSetFlag.DATA_EVENTFD) {
    const error = lines?.assign({ action, index, start, count }, passed) ?? 0;
    return error === 0 ? NOTHING : error;
  }
  if (disable && action !== VfioIrqSetFlag.ACTION_TRIGGER) return Errno.EINVAL;
  if (disable) lines?.disable(index);
  for (let each = 0; each < count; each++) {
    if (raised !== undefined && raised[each] === 0) continue;
    if (lines === undefined) device.trigger?.(index, start + each);
    else if (action === VfioIrqSetFlag.ACTION_TRIGGER) lines.signal(index, start + each);
    else lines.mask(index, start + each, action === VfioIrqSetFlag.ACTION_MASK);
  }
  return NOTHING;
}

function isOneBit(flags: number): boolean {
  return flags !== 0 && (flags & (flags - 1)) === 0;
}
