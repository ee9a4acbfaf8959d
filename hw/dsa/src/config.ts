import { bool, integer, properties, type Schema } from '@remora/core';
import { deviceTlbProperties, needsDeviceTlb, type PciPlacement, type TypedDevice } from '@remora/pci';

const options = properties({
  'work-queues': integer({ min: 1, max: 16 }, 8, 'work queues'),
  engines: integer({ min: 1, max: 8 }, 4, 'engines: descriptors that are worked on at the same time'),
  groups: integer({ min: 1, max: 4 }, 4, 'groups of work queues and engines'),
  'queue-size': integer({ min: 1, max: 0xffff }, 128, 'descriptors that all work queues hold together'),
  pasid: bool(true, 'requests may carry PASIDs'),
  ...deviceTlbProperties('a descriptor that blocks on faults waits for its pages'),
});
export type DsaConfig = ReturnType<typeof options.parse>;

/** Options of the dsa: each checked by itself, then all together. */
export const dsaProperties: Schema<DsaConfig> = needsDeviceTlb(options);

/** `-device dsa` as an object. */
export function dsa(options: PciPlacement & Partial<DsaConfig> = {}): TypedDevice {
  return { driver: 'dsa', options: { ...options } };
}
