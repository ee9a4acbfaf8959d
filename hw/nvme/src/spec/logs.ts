/** Log pages and asynchronous events (NVMe 1.4, 5.14 and 5.2). */
export const LogPage = {
  ERROR: 0x01,
  SMART: 0x02,
  FIRMWARE: 0x03,
  CHANGED_NAMESPACES: 0x04,
  EFFECTS: 0x05,
} as const;

export const ERROR_ENTRIES = 64;
export const ERROR_ENTRY_BYTES = 64;

/** Fields of an error log entry, in bytes. */
export const ErrorEntry = { COUNT: 0, SQID: 8, CID: 10, STATUS: 12, LOCATION: 14, LBA: 16, NSID: 24 } as const;
/** The parameter error location, and the command, of an error that has none. */
export const NOWHERE = 0xffff;

/** Fields of the SMART log, in bytes. */
export const Smart = {
  CRITICAL_WARNING: 0,
  TEMPERATURE: 1,
  SPARE: 3,
  SPARE_THRESHOLD: 4,
  UNITS_READ: 32,
  UNITS_WRITTEN: 48,
  READS: 64,
  WRITES: 80,
  POWER_CYCLES: 112,
  POWER_ON_HOURS: 128,
  UNSAFE_SHUTDOWNS: 144,
  MEDIA_ERRORS: 160,
  ERROR_LOG_ENTRIES: 176,
} as const;
export const SMART_BYTES = 512;
/** A data unit is 1000 blocks of 512 bytes. */
export const DATA_UNIT_BYTES = 512_000;
/** Critical warning, and bit of the async event configuration: a temperature beyond a threshold. */
export const WARNING_TEMPERATURE_BIT = 0x02;

export const FIRMWARE_BYTES_OF_PAGE = 512;
export const CHANGED_NAMESPACES_BYTES = 4096;
export const EFFECTS_BYTES = 4096;
/** Commands supported and effects: where the I/O commands begin; supported; changes blocks. */
export const EFFECTS_IO = 1024;
export const Effect = { SUPPORTED: 1, BLOCKS: 2, NAMESPACE: 4 } as const;

/** Types of asynchronous events. */
export const EventType = { ERROR: 0, SMART: 1, NOTICE: 2 } as const;
export const ErrorEvent = { DOORBELL_REGISTER: 0, DOORBELL_VALUE: 1 } as const;
export const SmartEvent = { TEMPERATURE: 1 } as const;

/** Get Log Page, dword 10: do not unmask the events of this page. */
export const RETAIN_EVENT = 0x8000;
