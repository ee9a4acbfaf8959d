import { integer, properties, type Schema } from '@remora/core';
import { deviceTlbProperties, needsDeviceTlb, type PciPlacement, type TypedDevice } from '@remora/pci';

const SECOND = 1_000_000_000;

const options = properties({
  latency: integer(
    { min: 0, max: SECOND },
    0,
    'nanoseconds of virtual time that a command takes; 0 runs it within the register write',
  ),
  ...deviceTlbProperties('an access whose page is absent waits for it'),
});
export type DmaEngineConfig = ReturnType<typeof options.parse>;

/** Options of the dma-engine: each checked by itself, then all together. */
export const dmaEngineProperties: Schema<DmaEngineConfig> = needsDeviceTlb(options);

/** `-device dma-engine` as an object. */
export function dmaEngine(options: PciPlacement & Partial<DmaEngineConfig> = {}): TypedDevice {
  return { driver: 'dma-engine', options: { ...options } };
}
