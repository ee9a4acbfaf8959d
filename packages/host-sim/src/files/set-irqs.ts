/** VFIO_DEVICE_SET_IRQS, judged as Linux does: ranges first, then what the data says, then the action. */
import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import { VFIO_PCI_NUM_IRQS, VfioIrqSet, VfioIrqSetFlag, VfioPciIrq } from '@remora/uapi';
import type { DeviceInterrupts } from '../devices/device-interrupts.js';
import { userStruct } from '../kernel/user.js';
import type { HostProcess } from '../process.js';
import { EventFd } from './eventfd.js';

const DATA_TYPES = VfioIrqSetFlag.DATA_NONE | VfioIrqSetFlag.DATA_BOOL | VfioIrqSetFlag.DATA_EVENTFD;
const ACTIONS = VfioIrqSetFlag.ACTION_MASK | VfioIrqSetFlag.ACTION_UNMASK | VfioIrqSetFlag.ACTION_TRIGGER;
const DATA_BYTES: ReadonlyMap<number, number> = new Map([
  [VfioIrqSetFlag.DATA_NONE, 0],
  [VfioIrqSetFlag.DATA_BOOL, 1],
  [VfioIrqSetFlag.DATA_EVENTFD, 4],
]);

export function setIrqs(process: HostProcess, interrupts: DeviceInterrupts, argument: IoctlArgument): number {
  const view = userStruct(argument, VfioIrqSet.size);
  if (typeof view === 'number') return view;
  const { fields } = VfioIrqSet;
  const flags = fields.flags.get(view);
  const index = fields.index.get(view);
  const start = fields.start.get(view);
  const count = fields.count.get(view);
  const each = DATA_BYTES.get(flags & DATA_TYPES);
  if (index >= VFIO_PCI_NUM_IRQS || each === undefined || (flags & ~(DATA_TYPES | ACTIONS)) !== 0) return -Errno.EINVAL;
  const available = interrupts.count(index);
  if (start >= Math.max(available, 1) || start + count > available) return -Errno.EINVAL;
  const data = each * count;
  if (each > 0 && (data === 0 || fields.argsz.get(view) - VfioIrqSet.size < data)) return -Errno.EINVAL;
  if (view.byteLength < VfioIrqSet.size + data) return -Errno.EFAULT;
  if (index !== VfioPciIrq.MSI && index !== VfioPciIrq.MSIX) return -Errno.ENOTTY;
  if ((flags & ACTIONS) !== VfioIrqSetFlag.ACTION_TRIGGER) return -Errno.ENOTTY;
  switch (flags & DATA_TYPES) {
    case VfioIrqSetFlag.DATA_EVENTFD:
      return connect(process, interrupts, view, index, start, count);
    case VfioIrqSetFlag.DATA_NONE:
      return count === 0 ? interrupts.disable(index) : interrupts.trigger(index, start, count);
    default:
      return triggerMarked(interrupts, view, index, start, count);
  }
}

function connect(
  process: HostProcess,
  interrupts: DeviceInterrupts,
  view: DataView,
  index: number,
  start: number,
  count: number,
): number {
  const signals: (EventFd | undefined)[] = [];
  for (let at = 0; at < count; at++) {
    const fd = view.getInt32(VfioIrqSet.size + 4 * at, true);
    const file = fd < 0 ? undefined : process.file(fd);
    if (fd >= 0 && file === undefined) return -Errno.EBADF;
    if (file !== undefined && !(file instanceof EventFd)) return -Errno.EINVAL;
    signals.push(file);
  }
  return interrupts.connect(index, start, signals);
}

function triggerMarked(
  interrupts: DeviceInterrupts,
  view: DataView,
  index: number,
  start: number,
  count: number,
): number {
  for (let at = 0; at < count; at++) {
    if (view.getUint8(VfioIrqSet.size + at) === 0) continue;
    const error = interrupts.trigger(index, start + at, 1);
    if (error !== 0) return error;
  }
  return 0;
}
