import { ConfigError, type Schema } from '@remora/core';
import { type VtdConfig, vtdOptions } from './options.js';

const MODE_SPELLINGS = ['x-scalable-mode', 'xScalableMode', 'scalable-mode', 'scalableMode'];

/** Whether the configuration offers scalable mode at all. */
export function isScalable(config: VtdConfig): boolean {
  return config['x-scalable-mode'] !== 'off' || config.nesting;
}

/**
 * A complete configuration: the defaults, overridden by `options`.
 * @param path names the device in error messages, for instance `devices[0]`.
 * @throws ConfigError for unknown options, values out of range, and values that do not go together.
 */
export function vtdConfig(options: Readonly<Record<string, unknown>> = {}, path = 'intel-iommu'): VtdConfig {
  const config = vtdOptions.parse(path, options);
  const refuse = (option: keyof VtdConfig, problem: string): never => {
    throw new ConfigError(`${path}.${option}`, problem);
  };
  const mode = config['x-scalable-mode'];
  const scalable = isScalable(config);
  const width = config['aw-bits'];

  if (config['quirk-off-refused'] && mode === 'off' && MODE_SPELLINGS.some(name => options[name] !== undefined)) {
    refuse('x-scalable-mode', '"off" is not one of modern, legacy (quirk-off-refused=on)');
  }
  if (config['x-flts'] && !scalable) refuse('x-flts', 'needs scalable mode: set x-scalable-mode=on');
  if (config['x-flts'] && width === 39) refuse('aw-bits', '39 is not offered with x-flts=on, which takes 48 or 57');
  if (config.eim && !config.intremap) refuse('eim', 'needs interrupt remapping: set intremap=on');
  if (scalable && !config['dma-drain'] && !config['quirk-off-refused']) {
    refuse('dma-drain', 'scalable mode needs it: leave dma-drain=on');
  }
  if (config['x-pasid-mode'] && !scalable) refuse('x-pasid-mode', 'needs scalable mode: set x-scalable-mode=on');
  if (config['x-pasid-mode'] && config['device-iotlb']) {
    refuse('x-pasid-mode', 'cannot be combined with device-iotlb=on');
  }
  if (config.compat === 'qemu-10.2') {
    if (width === 57) refuse('aw-bits', '57 is not one of 39, 48 (compat=qemu-10.2)');
    if (config.nesting) refuse('nesting', 'QEMU 10.2 does not nest: remove compat=qemu-10.2');
    if (mode === 'modern') refuse('x-scalable-mode', '"modern" is not one of off, on, legacy (compat=qemu-10.2)');
    if (config['fault-records'] !== 1) refuse('fault-records', 'QEMU 10.2 has one: remove compat=qemu-10.2');
  }
  return config;
}

/** The options as a device kind declares them: parsed and checked together. */
export const vtdProperties: Schema<VtdConfig> = {
  ...vtdOptions,
  parse: (path, input) => vtdConfig(input, path),
};
