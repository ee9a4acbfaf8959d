import { bool, ConfigError, integer, properties, type Schema } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';

const options = properties({
  'work-queues': integer({ min: 1, max: 16 }, 8, 'work queues'),
  engines: integer({ min: 1, max: 8 }, 4, 'engines: descriptors that are worked on at the same time'),
  groups: integer({ min: 1, max: 4 }, 4, 'groups of work queues and engines'),
  'queue-size': integer({ min: 1, max: 0xffff }, 128, 'descriptors that all work queues hold together'),
  pasid: bool(true, 'requests may carry PASIDs'),
  ats: bool(false, 'a device TLB (ATS): translations are asked for and kept'),
  pri: bool(false, 'page requests (PRI): a descriptor that blocks on faults waits for its pages; needs `ats`'),
  'x-invalidate-latency': integer(
    { min: 0, max: 1_000_000_000_000 },
    0,
    'nanoseconds of virtual time until an invalidation of the device TLB is done and completed; needs `ats`',
  ),
});
export type DsaConfig = ReturnType<typeof options.parse>;

/** Options of the dsa: each checked by itself, then all together. */
export const dsaProperties: Schema<DsaConfig> = {
  ...options,
  parse(path, input) {
    const config = options.parse(path, input);
    for (const option of ['pri', 'x-invalidate-latency'] as const) {
      if (config[option] && !config.ats) throw new ConfigError(`${path}.${option}`, 'needs a device TLB: set ats=on');
    }
    return config;
  },
};

/** `-device dsa` as an object. */
export function dsa(options: PciPlacement & Partial<DsaConfig> = {}): TypedDevice {
  return { driver: 'dsa', options: { ...options } };
}
