/** Administrative commands (DSA architecture specification, 9.2.12 to 9.2.14). */
import { bit, bits, record } from '@remora/bits';

export const CommandWord = record('dsa.cmd', 'DSA 9.2.12', 4, {
  operand: bits(19, 0),
  command: bits(24, 20),
  interrupt: bit(31),
});

export const CommandStatus = record('dsa.cmdsts', 'DSA 9.2.13', 4, {
  error: bits(7, 0),
  result: bits(23, 8),
  active: bit(31),
});

export const Command = {
  ENABLE_DEVICE: 1,
  DISABLE_DEVICE: 2,
  DRAIN_ALL: 3,
  ABORT_ALL: 4,
  RESET_DEVICE: 5,
  ENABLE_WQ: 6,
  DISABLE_WQ: 7,
  DRAIN_WQ: 8,
  ABORT_WQ: 9,
  RESET_WQ: 10,
  DRAIN_PASID: 11,
  ABORT_PASID: 12,
  REQUEST_INTERRUPT_HANDLE: 13,
  RELEASE_INTERRUPT_HANDLE: 14,
} as const;

/** Values of CommandStatus.error. */
export const CommandError = {
  SUCCESS: 0x00,
  INVALID_COMMAND: 0x01,
  INVALID_QUEUE: 0x02,
  DEVICE_ENABLED: 0x10,
  BUS_MASTER: 0x12,
  QUEUE_SIZES: 0x14,
  /** A group has work queues and no engine, or engines and no work queue. */
  GROUP: 0x15,
  /** A work queue is in two groups. */
  GROUP_QUEUE: 0x16,
  /** An engine is in two groups. */
  GROUP_ENGINE: 0x17,
  DEVICE_NOT_ENABLED: 0x20,
  QUEUE_ENABLED: 0x21,
  QUEUE_SIZE: 0x22,
  PRIORITY: 0x23,
  MODE: 0x24,
  BLOCK_ON_FAULT: 0x25,
  PASID: 0x26,
  BATCH_SIZE: 0x27,
  TRANSFER_SIZE: 0x28,
  DISABLE_NOT_ENABLED: 0x31,
  NOT_ENABLED: 0x32,
  INTERRUPT_INDEX: 0x41,
} as const;

/** In the operand of REQUEST and RELEASE_INTERRUPT_HANDLE: the index is one of the Interrupt Message Storage. */
export const OPERAND_IMS = 0x1_0000;
