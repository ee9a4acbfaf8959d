/**
 * Status fields (NVMe 1.4, 4.6.1), as they stand in a completion's bits 31:17: code in 7:0, type in 10:8, more in 13, do not retry
 * in 14.
 */

/** The same command would fail again. */
export const DNR = 0x4000;
/** The error log tells more. */
export const MORE = 0x2000;
/** Type and code: what says which error it is. */
export const STATUS_CODE = 0x07ff;

export const Status = {
  SUCCESS: 0x000,
  // Generic (type 0).
  INVALID_OPCODE: 0x001,
  INVALID_FIELD: 0x002,
  COMMAND_ID_CONFLICT: 0x003,
  DATA_TRANSFER_ERROR: 0x004,
  INTERNAL_ERROR: 0x006,
  COMMAND_ABORT_REQUESTED: 0x007,
  INVALID_NAMESPACE_OR_FORMAT: 0x00b,
  COMMAND_SEQUENCE_ERROR: 0x00c,
  PRP_OFFSET_INVALID: 0x013,
  NAMESPACE_WRITE_PROTECTED: 0x020,
  LBA_OUT_OF_RANGE: 0x080,
  // Command specific (type 1).
  COMPLETION_QUEUE_INVALID: 0x100,
  INVALID_QUEUE_IDENTIFIER: 0x101,
  INVALID_QUEUE_SIZE: 0x102,
  ASYNC_EVENT_LIMIT_EXCEEDED: 0x105,
  INVALID_INTERRUPT_VECTOR: 0x108,
  INVALID_LOG_PAGE: 0x109,
  INVALID_FORMAT: 0x10a,
  INVALID_QUEUE_DELETION: 0x10c,
  FEATURE_NOT_SAVEABLE: 0x10d,
  FEATURE_NOT_CHANGEABLE: 0x10e,
  FEATURE_NOT_NAMESPACE_SPECIFIC: 0x10f,
  // Media and data integrity (type 2).
  WRITE_FAULT: 0x280,
  UNRECOVERED_READ_ERROR: 0x281,
  COMPARE_FAILURE: 0x285,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

const NAMES = new Map<number, string>(Object.entries(Status).map(([name, value]) => [value, name]));

/** `LBA_OUT_OF_RANGE`, `LBA_OUT_OF_RANGE, do not retry`; for people. */
export function statusText(status: number): string {
  const code = status & STATUS_CODE;
  const name = NAMES.get(code) ?? `status 0x${code.toString(16)}`;
  return (status & DNR) === 0 ? name : `${name}, do not retry`;
}
