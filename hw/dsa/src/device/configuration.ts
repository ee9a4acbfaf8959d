/** What must hold of the configuration for the device, and a work queue, to be enabled (DSA 9.2.13). */
import type { PciFunction } from '@remora/pci';
import { CommandError, Gencap, QueueConfig, QueueState, Reg, Wqcap } from '../spec/index.js';
import type { Registers } from './registers.js';

/** A CommandError. */
export function judgeDevice(registers: Registers): number {
  const { words } = registers;
  let size = 0;
  for (let queue = 0; queue < registers.queues; queue++) {
    size += QueueConfig.fields.size.get(words, registers.queueAt(queue));
  }
  if (size > Wqcap.fields.totalSize.get(words, Reg.WQCAP >>> 2)) return CommandError.QUEUE_SIZES;
  let seenQueues = 0;
  let seenEngines = 0;
  for (let group = 0; group < registers.groups; group++) {
    const queues = words[registers.groupAt(group)]!;
    const engines = registers.enginesOf(group);
    if ((queues === 0) !== (engines === 0)) return CommandError.GROUP;
    if ((queues & seenQueues) !== 0) return CommandError.GROUP_QUEUE;
    if ((engines & seenEngines) !== 0) return CommandError.GROUP_ENGINE;
    seenQueues |= queues;
    seenEngines |= engines;
  }
  return CommandError.SUCCESS;
}

/** A CommandError. */
export function judgeQueue(registers: Registers, fn: PciFunction, queue: number): number {
  const { words } = registers;
  const at = registers.queueAt(queue);
  const { size, priority, dedicated, blockOnFault, pasidEnable, privileged, maxTransferShift, maxBatchShift } =
    QueueConfig.fields;
  const own = dedicated.get(words, at) !== 0;
  const tagged = pasidEnable.get(words, at) !== 0;
  if (registers.queueState(queue) !== QueueState.DISABLED) return CommandError.QUEUE_ENABLED;
  if (size.get(words, at) === 0 || registers.groupOf(queue) < 0) return CommandError.QUEUE_SIZE;
  if (priority.get(words, at) === 0) return CommandError.PRIORITY;
  if (!own && Wqcap.fields.shared.get(words, Reg.WQCAP >>> 2) === 0) return CommandError.MODE;
  if (blockOnFault.get(words, at) !== 0 && Gencap.fields.blockOnFault.get(words, Reg.GENCAP >>> 2) === 0)
    return CommandError.BLOCK_ON_FAULT;
  if (tagged ? !fn.pasidEnabled : !own) return CommandError.PASID;
  if (own && tagged && privileged.get(words, at) !== 0 && !registers.privilege) return CommandError.PASID;
  if (maxBatchShift.get(words, at) > Gencap.fields.maxBatchShift.get(words, Reg.GENCAP >>> 2))
    return CommandError.BATCH_SIZE;
  if (maxTransferShift.get(words, at) > Gencap.fields.maxTransferShift.get(words, Reg.GENCAP >>> 2))
    return CommandError.TRANSFER_SIZE;
  return CommandError.SUCCESS;
}
