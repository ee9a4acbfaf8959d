import type { VtdConfig } from '@hw/intel-iommu';

/** Units that fuzz programs run on, and the translation types that make sense there. */
export interface Configuration {
  readonly name: string;
  readonly options: Partial<VtdConfig>;
  readonly modes: readonly Mode[];
}

export type Mode = 'legacy' | 'second' | 'first' | 'nested';

const SNOOPED = { 'x-smpwcs': true } as const;
/** Everything that a physical unit offers. */
const PHYSICAL = { nesting: true, 'x-ssads': true, 'x-eafs': true, 'x-rps': true, ...SNOOPED } as const;

export const CONFIGURATIONS: readonly Configuration[] = [
  { name: 'legacy', options: { 'fault-records': 4 }, modes: ['legacy'] },
  { name: 'legacy, 39 bits, caching mode', options: { 'aw-bits': 39, 'caching-mode': true }, modes: ['legacy'] },
  {
    name: 'legacy, 57 bits, snoop control, device TLBs',
    options: { 'aw-bits': 57, 'snoop-control': true, 'device-iotlb': true, intremap: true, 'iotlb-entries': 16 },
    modes: ['legacy'],
  },
  { name: 'legacy, no pass-through', options: { pt: false, intremap: true, eim: true }, modes: ['legacy'] },
  {
    name: 'scalable, second stage',
    options: { 'x-scalable-mode': 'on', 'snoop-control': true, 'device-iotlb': true },
    modes: ['legacy', 'second'],
  },
  {
    name: 'scalable, second stage with A/D, PASIDs, caching mode',
    options: {
      'x-scalable-mode': 'on',
      'x-pasid-mode': true,
      'x-ssads': true,
      'caching-mode': true,
      'fault-records': 3,
      ...SNOOPED,
    },
    modes: ['second'],
  },
  {
    name: 'scalable, first stage',
    options: { 'x-scalable-mode': 'on', 'x-flts': true, 'x-pasid-mode': true, ...SNOOPED },
    modes: ['first'],
  },
  { name: 'scalable, first stage, unsnooped', options: { 'x-scalable-mode': 'on', 'x-flts': true }, modes: ['first'] },
  {
    name: 'modern, caching mode',
    options: { 'x-scalable-mode': 'modern', 'caching-mode': true, 'fault-records': 2, pt: false, ...SNOOPED },
    modes: ['first'],
  },
  {
    name: 'modern, 57 bits, device TLBs',
    options: { 'x-scalable-mode': 'modern', 'aw-bits': 57, 'device-iotlb': true, fs1gp: false, ...SNOOPED },
    modes: ['first'],
  },
  {
    name: 'nesting',
    options: { ...PHYSICAL, 'fault-records': 8 },
    modes: ['first', 'second', 'nested', 'nested', 'nested'],
  },
  {
    name: 'nesting, 57 bits, device TLBs',
    options: { ...PHYSICAL, 'aw-bits': 57, 'device-iotlb': true, 'iotlb-entries': 16 },
    modes: ['legacy', 'first', 'second', 'nested', 'nested', 'nested'],
  },
  { name: 'nesting, plain', options: { nesting: true, ...SNOOPED }, modes: ['nested'] },
  {
    name: 'nesting, 39 bits, caching mode',
    options: { ...PHYSICAL, 'aw-bits': 39, 'caching-mode': true },
    modes: ['second', 'nested', 'nested'],
  },
];

/** The profile that follows QEMU, whose every departure the recordings prove: programs for it are judged by what holds of any unit. */
export const QEMU_CONFIGURATIONS: readonly Configuration[] = [
  { name: 'QEMU, legacy', options: { compat: 'qemu-10.2', intremap: true }, modes: ['legacy'] },
  {
    name: 'QEMU, scalable, second stage',
    options: { compat: 'qemu-10.2', 'x-scalable-mode': 'on', 'caching-mode': true, 'device-iotlb': true },
    modes: ['legacy', 'second'],
  },
  {
    name: 'QEMU, scalable, first stage',
    options: { compat: 'qemu-10.2', 'x-scalable-mode': 'on', 'x-flts': true, 'x-pasid-mode': true },
    modes: ['first'],
  },
];
