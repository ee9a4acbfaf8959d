import { ConfigError } from '@remora/core';
import { VTD_DEFAULTS, type VtdConfig } from './options.js';

const MAX_FAULT_RECORDS = 128;
const MAX_IOTLB_ENTRIES = 2 ** 20;

/** Whether the configuration offers scalable mode at all. */
export function isScalable(config: VtdConfig): boolean {
  return config['x-scalable-mode'] !== 'off' || config.nesting;
}

/**
 * A complete configuration: the defaults, overridden by `options`.
 * @param path names the device in error messages, for instance `devices[0]`.
 * @throws ConfigError for values that do not go together.
 */
export function vtdConfig(options: Partial<VtdConfig> = {}, path = 'intel-iommu'): VtdConfig {
  const config = { ...VTD_DEFAULTS, ...options };
  const refuse = (option: keyof VtdConfig, problem: string): never => {
    throw new ConfigError(`${path}.${option}`, problem);
  };
  const mode = config['x-scalable-mode'];
  const scalable = isScalable(config);
  const width = config['aw-bits'];

  if (options['x-scalable-mode'] === 'off' && config['quirk-off-refused']) {
    refuse('x-scalable-mode', '"off" is not one of modern, legacy (quirk-off-refused=on)');
  }
  if (width !== 39 && width !== 48 && width !== 57) refuse('aw-bits', `${String(width)} is not one of 39, 48, 57`);
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
  checkCount(path, 'fault-records', config['fault-records'], MAX_FAULT_RECORDS);
  checkCount(path, 'iotlb-entries', config['iotlb-entries'], MAX_IOTLB_ENTRIES);

  if (config.compat === 'qemu-10.2') {
    if (width === 57) refuse('aw-bits', '57 is not one of 39, 48 (compat=qemu-10.2)');
    if (config.nesting) refuse('nesting', 'QEMU 10.2 does not nest: remove compat=qemu-10.2');
    if (mode === 'modern') refuse('x-scalable-mode', '"modern" is not one of off, on, legacy (compat=qemu-10.2)');
    if (config['fault-records'] !== 1) refuse('fault-records', 'QEMU 10.2 has one: remove compat=qemu-10.2');
  }
  return config;
}

function checkCount(path: string, option: keyof VtdConfig, value: number, maximum: number): void {
  if (!Number.isInteger(value) || value < 1 || value > maximum) {
    throw new ConfigError(`${path}.${option}`, `${value} is not an integer from 1 to ${maximum}`);
  }
}
