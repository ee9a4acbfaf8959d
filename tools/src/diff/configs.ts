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

/** The command line for either side, without what only one of them needs. */
export function machineArguments(config: DiffConfig, more: readonly string[] = []): string[] {
  return [
    ...['-M', 'q35', '-m', '64', '-nodefaults', '-net', 'none', '-display', 'none'],
    ...['-device', ['intel-iommu', ...config.options, ...more].join(',')],
    ...['-device', 'edu,addr=02.0,dma_mask=0xffffffffffff'],
  ];
}
