import { integer, properties } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';

const SECOND = 1_000_000_000;

/** Options of the dma-engine. */
export const dmaEngineProperties = properties({
  latency: integer(
    { min: 0, max: SECOND },
    0,
    'nanoseconds of virtual time that a command takes; 0 runs it within the register write',
  ),
});
export type DmaEngineConfig = ReturnType<typeof dmaEngineProperties.parse>;

/** `-device dma-engine` as an object. */
export function dmaEngine(options: PciPlacement & Partial<DmaEngineConfig> = {}): TypedDevice {
  return { driver: 'dma-engine', options: { ...options } };
}
