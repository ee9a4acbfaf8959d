import { type DeviceName, DEVICES, EDUS } from './layout.js';

/** What is compared: units, and the tables that make sense there. */
export interface DiffConfig {
  readonly name: string;
  readonly mode: 'legacy' | 'second' | 'first' | 'pass';
  /** Options of intel-iommu, as both sides take them. */
  readonly options: readonly string[];
}

const SCALABLE = 'x-scalable-mode=on';

export const CONFIGS: readonly DiffConfig[] = [
  { name: 'legacy', mode: 'legacy', options: [] },
  { name: 'caching-mode', mode: 'legacy', options: ['caching-mode=on'] },
  { name: 'scalable-second-stage', mode: 'second', options: [SCALABLE] },
  { name: 'first-stage', mode: 'first', options: [SCALABLE, 'x-flts=on'] },
  { name: 'pass-through', mode: 'pass', options: [SCALABLE] },
];

export function scalable(config: DiffConfig): boolean {
  return config.mode !== 'legacy';
}

/** @throws RangeError */
export function configNamed(name: string): DiffConfig {
  const found = CONFIGS.find(config => config.name === name);
  if (found === undefined) throw new RangeError(`"${name}" is not one of ${CONFIGS.map(each => each.name).join(', ')}`);
  return found;
}

/** 32-bit words of a descriptor in its queue. */
export function descriptorWords(config: DiffConfig): number {
  return scalable(config) ? 8 : 4;
}

/** The command line for either side, without what only one of them needs. */
export function machineArguments(
  { options }: DiffConfig,
  { testdev = false, more = [] }: { readonly testdev?: boolean; readonly more?: readonly string[] } = {},
): string[] {
  const place = (name: DeviceName): string => `addr=${DEVICES[name].slot.toString(16).padStart(2, '0')}.0`;
  return [
    ...['-M', 'q35', '-m', '64', '-nodefaults', '-net', 'none', '-display', 'none'],
    ...['-device', ['intel-iommu', ...options, ...more].join(',')],
    ...EDUS.flatMap(name => ['-device', `edu,${place(name)},dma_mask=0xffffffffffffffff`]),
    ...(testdev ? ['-device', `iommu-testdev,${place('iommu-testdev')}`] : []),
  ];
}
