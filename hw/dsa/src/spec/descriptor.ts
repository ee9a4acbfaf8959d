/** Descriptors and completion records (DSA architecture specification, chapter 8). */
import { bit, bits, record } from '@remora/bits';

export const DESCRIPTOR_BYTES = 64;
export const DESCRIPTOR_WORDS = 16;
export const RECORD_BYTES = 32;

/** What all descriptors have (8.1); other words depend on the operation, see Word. */
export const Descriptor = record('dsa.descriptor', 'DSA 8.1', DESCRIPTOR_BYTES, {
  pasid: bits(19, 0),
  privileged: bit(31),
  flags: bits(55, 32),
  operation: bits(63, 56),
  completionLo: bits(95, 64),
  completionHi: bits(127, 96),
  sourceLo: bits(159, 128),
  sourceHi: bits(191, 160),
  destinationLo: bits(223, 192),
  destinationHi: bits(255, 224),
  /** In bytes; of a batch: how many descriptors. */
  size: bits(287, 256),
  interruptHandle: bits(303, 288),
  /** Operation-specific fields. */
  extra0: bits(351, 320),
  extra1: bits(383, 352),
  extra2: bits(415, 384),
  extra3: bits(447, 416),
});

/** Word indices of what operations have in common. */
export const Word = { COMPLETION: 2, SOURCE: 4, DESTINATION: 6, SIZE: 8, EXTRA: 10, SEED_ADDRESS: 12 } as const;

export const Operation = {
  NOOP: 0x00,
  BATCH: 0x01,
  DRAIN: 0x02,
  MEMMOVE: 0x03,
  FILL: 0x04,
  COMPARE: 0x05,
  COMPARE_PATTERN: 0x06,
  DUALCAST: 0x09,
  CRC: 0x10,
  COPY_CRC: 0x11,
  CACHE_FLUSH: 0x20,
} as const;

/** Bits of Descriptor.flags (8.1.3). */
export const Flag = {
  FENCE: 0x0001,
  BLOCK_ON_FAULT: 0x0002,
  COMPLETION_ADDRESS_VALID: 0x0004,
  REQUEST_COMPLETION: 0x0008,
  REQUEST_INTERRUPT: 0x0010,
  COMPLETION_STEERING: 0x0020,
  CHECK_RESULT: 0x0080,
  CACHE_CONTROL: 0x0100,
  TRAFFIC_CLASSES: 0x1e00,
  STRICT_ORDERING: 0x2000,
  DESTINATION_STEERING: 0x8000,
  READ_CRC_SEED: 0x1_0000,
  BYPASS_CRC_REFLECTION: 0x2_0000,
  BYPASS_DATA_REFLECTION: 0x4_0000,
} as const;

export const CompletionRecord = record('dsa.completion', 'DSA 8.2', RECORD_BYTES, {
  /** Status, and in bit 7 whether the access that faulted was a write. */
  status: bits(6, 0),
  write: bit(7),
  result: bits(15, 8),
  /** Bytes; of a batch: descriptors. */
  completed: bits(63, 32),
  faultLo: bits(95, 64),
  faultHi: bits(127, 96),
  /** Flags that were invalid, or the CRC. */
  value: bits(159, 128),
  valueHi: bits(191, 160),
});

/** Values of CompletionRecord.status, and of Swerr.error (8.2, table of completion codes). */
export const Status = {
  NONE: 0x00,
  SUCCESS: 0x01,
  /** The operation did what it had to; its result is not the expected one. */
  FALSE_PREDICATE: 0x02,
  /** A page is absent and the descriptor does not block on faults. */
  PAGE_FAULT: 0x03,
  /** A page was requested, and refused. */
  PAGE_REFUSED: 0x04,
  BATCH_FAILED: 0x05,
  /** The list of descriptors could not be read. */
  BATCH_PAGE_FAULT: 0x06,
  OPERATION: 0x10,
  FLAGS: 0x11,
  RESERVED: 0x12,
  TRANSFER_SIZE: 0x13,
  DESCRIPTOR_COUNT: 0x14,
  OVERLAP: 0x16,
  DUALCAST_ALIGNMENT: 0x17,
  LIST_ALIGNMENT: 0x18,
  INTERRUPT_HANDLE: 0x19,
  COMPLETION_FAULT: 0x1a,
  COMPLETION_ALIGNMENT: 0x1b,
  ADDRESS_ALIGNMENT: 0x1c,
  PRIVILEGE: 0x1d,
  /** Memory refused a request that was not to be translated first. */
  HARDWARE: 0x20,
  TRANSLATION: 0x22,
  /** A descriptor came to a portal whose work queue does not take it. */
  QUEUE_NOT_ENABLED: 0x51,
  QUEUE_FULL: 0x52,
} as const;
