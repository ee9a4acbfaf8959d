import { bool, ConfigError, integer, properties, type Schema } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';

const SECOND = 1_000_000_000;

const options = properties({
  latency: integer(
    { min: 0, max: SECOND },
    0,
    'nanoseconds of virtual time that a command takes; 0 runs it within the register write',
  ),
  ats: bool(false, 'a device TLB (ATS): translations are asked for and kept'),
  pri: bool(false, 'page requests (PRI): an access whose page is absent waits for it; needs `ats`'),
  'x-invalidate-latency': integer(
    { min: 0, max: 1000 * SECOND },
    0,
    'nanoseconds of virtual time until an invalidation of the device TLB is done and completed; needs `ats`',
  ),
});
export type DmaEngineConfig = ReturnType<typeof options.parse>;

/** Options of the dma-engine: each checked by itself, then all together. */
export const dmaEngineProperties: Schema<DmaEngineConfig> = {
  ...options,
  parse(path, input) {
    const config = options.parse(path, input);
    for (const option of ['pri', 'x-invalidate-latency'] as const) {
      if (config[option] && !config.ats) throw new ConfigError(`${path}.${option}`, 'needs a device TLB: set ats=on');
    }
    return config;
  },
};

/** `-device dma-engine` as an object. */
export function dmaEngine(options: PciPlacement & Partial<DmaEngineConfig> = {}): TypedDevice {
  return { driver: 'dma-engine', options: { ...options } };
}
