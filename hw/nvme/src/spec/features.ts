/** Features (NVMe 1.4, 5.21). */
export const FeatureId = {
  ARBITRATION: 0x01,
  POWER_MANAGEMENT: 0x02,
  TEMPERATURE_THRESHOLD: 0x04,
  ERROR_RECOVERY: 0x05,
  VOLATILE_WRITE_CACHE: 0x06,
  NUMBER_OF_QUEUES: 0x07,
  INTERRUPT_COALESCING: 0x08,
  INTERRUPT_VECTOR: 0x09,
  WRITE_ATOMICITY: 0x0a,
  ASYNC_EVENT: 0x0b,
  TIMESTAMP: 0x0e,
  HOST_IDENTIFIER: 0x81,
} as const;

/** Get Features, dword 10: which value. */
export const Select = { CURRENT: 0, DEFAULT: 1, SAVED: 2, CAPABILITIES: 3 } as const;
/** The answer to Select.CAPABILITIES. */
export const FeatureCapability = { NAMESPACE_SPECIFIC: 2, CHANGEABLE: 4 } as const;
/** Set Features, dword 10: save. */
export const SAVE = 0x8000_0000;

export const TIMESTAMP_BYTES = 8;
export const HOST_ID_BYTES = 16;
