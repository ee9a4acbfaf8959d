import { ConfigError, type Schema } from '@remora/core';
import { vtdOptions, type VtdConfig } from './options.js';

/** Whether the configuration offers scalable mode at all. */
export function isScalable(config: VtdConfig): boolean {
  return config['x-scalable-mode'] !== 'off' || config.nesting;
}

/** Whether the configuration offers second-stage tables in scalable mode. */
export function offersSecondStage(config: VtdConfig): boolean {
  return isScalable(config) && (config.nesting || !offersFirstStage(config));
}

/** Whether the configuration offers first-stage tables. */
export function offersFirstStage(config: VtdConfig): boolean {
  return isScalable(config) && (config['x-flts'] || config.nesting || config['x-scalable-mode'] === 'modern');
}

/** PASIDs of a physical unit and of RFC v3.1's modern mode. */
const WIDE_PASIDS = 20;
/** QEMU 10.2's x-pasid-mode. */
const QEMU_PASIDS = 8;

/** Width in bits of the PASIDs that the configuration offers; 0 if none. */
export function pasidBits(config: VtdConfig): number {
  if (config['pasid-bits'] > 0) return config['pasid-bits'];
  if (config['x-pasid-mode']) return QEMU_PASIDS;
  return config['x-scalable-mode'] === 'modern' || config.nesting ? WIDE_PASIDS : 0;
}

/** The ways to write `x-scalable-mode`. */
const SCALABLE_MODE_NAMES = ['x-scalable-mode', 'xScalableMode', 'scalable-mode', 'scalableMode'] as const;
/** Capabilities that only scalable mode has. */
const SCALABLE_ONLY = [
  'x-flts',
  'pasid-bits',
  'x-pasid-mode',
  'x-smpwcs',
  'x-ssads',
  'x-eafs',
  'x-rps',
  'x-ers',
] as const;

/** The options of intel-iommu: each checked by itself, then all together. */
export const vtdProperties: Schema<VtdConfig> = {
  ...vtdOptions,
  parse(path, input) {
    const config = vtdOptions.parse(path, input);
    checkMode(config, path, input);
    checkWidth(config, path);
    for (const option of ['eim', 'x-pi'] as const) {
      if (config[option] && !config.intremap) refuse(path, option, 'needs interrupt remapping: set intremap=on');
    }
    checkStages(config, path);
    checkPasids(config, path);
    checkDeviceTlbs(config, path);
    if (config.compat === 'qemu-10.2') checkCompatible(config, path);
    return config;
  },
};

/**
 * A complete configuration: the defaults, overridden by `options`.
 * @param path names the device in error messages, for instance `devices[0]`.
 * @throws ConfigError for unknown options, values out of range, and values that do not go together.
 */
export function vtdConfig(options: Readonly<Record<string, unknown>> = {}, path = 'intel-iommu'): VtdConfig {
  return vtdProperties.parse(path, options);
}

function checkMode(config: VtdConfig, path: string, input: Readonly<Record<string, unknown>>): void {
  const mode = config['x-scalable-mode'];
  const given = SCALABLE_MODE_NAMES.some(name => input[name] !== undefined);
  if (config['quirk-off-refused'] && given && (mode === 'off' || mode === 'on')) {
    refuse(path, 'x-scalable-mode', `"${mode}" is not one of modern, legacy (quirk-off-refused=on)`);
  }
  if (isScalable(config)) {
    if (!config['dma-drain'] && !config['quirk-off-refused']) {
      refuse(path, 'dma-drain', 'scalable mode needs it: leave dma-drain=on');
    }
    return;
  }
  for (const option of SCALABLE_ONLY) {
    if (config[option]) refuse(path, option, 'needs scalable mode: set x-scalable-mode=on');
  }
}

function checkWidth(config: VtdConfig, path: string): void {
  if (config['x-flts'] && config['aw-bits'] === 39) {
    refuse(path, 'aw-bits', '39 is not offered with x-flts=on, which takes 48 or 57');
  }
}

/** Accessed and dirty bits of stages that are not there. */
function checkStages(config: VtdConfig, path: string): void {
  if (config['x-eafs'] && !offersFirstStage(config)) {
    refuse(path, 'x-eafs', 'needs a first stage: set x-flts=on or nesting=on');
  }
  if (config['x-ssads'] && !offersSecondStage(config)) {
    refuse(path, 'x-ssads', 'needs a second stage in scalable mode: set x-flts=off or nesting=on');
  }
}

function checkPasids(config: VtdConfig, path: string): void {
  const bits = config['pasid-bits'];
  const modern = config['x-scalable-mode'] === 'modern';
  if (config['x-pasid-mode'] && modern) {
    refuse(path, 'x-pasid-mode', 'its 8 bits are not the 20 of x-scalable-mode=modern: remove it');
  }
  if (config['x-pasid-mode'] && bits > 0 && bits !== QEMU_PASIDS) {
    refuse(path, 'pasid-bits', `${bits} is not the ${QEMU_PASIDS} of x-pasid-mode=on: remove one of them`);
  }
  if (modern && bits > 0 && bits !== WIDE_PASIDS) {
    refuse(path, 'pasid-bits', `${bits} is not the ${WIDE_PASIDS} of x-scalable-mode=modern: remove it`);
  }
}

/** What device TLBs, and page requests over them, need. */
function checkDeviceTlbs(config: VtdConfig, path: string): void {
  for (const option of ['svm', 'x-dit'] as const) {
    if (config[option] && !config['device-iotlb']) refuse(path, option, 'needs device TLBs: set device-iotlb=on');
  }
  if (!config.svm) return;
  if (!offersFirstStage(config)) refuse(path, 'svm', 'needs a first stage: set x-scalable-mode=on and x-flts=on');
  if (pasidBits(config) === 0) refuse(path, 'svm', 'needs PASIDs: set pasid-bits to 1 .. 20');
}

/** What QEMU 10.2 does not have. */
function checkCompatible(config: VtdConfig, path: string): void {
  const advice = 'remove compat=qemu-10.2';
  if (config['aw-bits'] === 57) refuse(path, 'aw-bits', '57 is not one of 39, 48 (compat=qemu-10.2)');
  if (config.nesting) refuse(path, 'nesting', `QEMU 10.2 does not nest: ${advice}`);
  if (config['x-scalable-mode'] === 'modern') {
    refuse(path, 'x-scalable-mode', '"modern" is not one of off, on, legacy (compat=qemu-10.2)');
  }
  if (config['fault-records'] !== 1) refuse(path, 'fault-records', `QEMU 10.2 has one: ${advice}`);
  if (config['pasid-bits'] > 0) refuse(path, 'pasid-bits', 'QEMU 10.2 has x-pasid-mode=on in its place, for 8 bits');
  for (const option of ['svm', 'x-dit', 'x-pi', 'x-smpwcs', 'x-ssads', 'x-eafs', 'x-rps', 'x-ers'] as const) {
    if (config[option]) refuse(path, option, `QEMU 10.2 does not offer it: ${advice}`);
  }
  if (config['x-pasid-mode'] && config['device-iotlb']) {
    refuse(path, 'x-pasid-mode', 'QEMU 10.2 does not combine it with device-iotlb=on: remove one of them');
  }
}

function refuse(path: string, option: keyof VtdConfig, problem: string): never {
  throw new ConfigError(`${path}.${option}`, problem);
}
