/** From the header of a recording to the options of a model that is to answer like the recorded one, and back. */
import {
  Cap,
  capabilityRegister,
  Ecap,
  extendedCapabilityRegister,
  isScalable,
  offersFirstStage,
  pasidBits,
  vtdConfig,
  type VtdConfig,
} from '@hw/intel-iommu';
import { ConfigError } from '@remora/core';
import { TraceError } from './trace-error.js';
import type { TraceHeader, UnitFacts } from './trace-header.js';
import { allDigitsOf, type Words } from './words.js';

/**
 * The configuration of the recorded unit. Of one of QEMU's, what the header does not name comes from the recorded command line or, where
 * that is silent (QEMU's defaults depend on the machine), from CAP and ECAP; of one of this project's, options have their defaults.
 * @throws TraceError unless a model of that configuration reports the header's CAP and ECAP.
 */
export function replayConfig(file: string, header: TraceHeader): VtdConfig {
  const config = configOf(file, header);
  const facts = factsOf(config);
  checkRegister(file, 'cap', header.cap, facts.cap);
  checkRegister(file, 'ecap', header.ecap, facts.ecap);
  return config;
}

/** What a header says of a unit with this configuration. */
export function factsOf(config: VtdConfig): UnitFacts {
  return {
    cap: wordsOf(capabilityRegister(config)),
    ecap: wordsOf(extendedCapabilityRegister(config)),
    addressWidth: config['aw-bits'],
    cachingMode: config['caching-mode'],
    scalableMode: isScalable(config),
    firstStage: offersFirstStage(config),
    pasidMode: pasidBits(config) > 0,
  };
}

/** The options of a configuration that are not the defaults, as they are written on command lines. */
export function optionsOf(config: VtdConfig): Record<string, string> {
  const defaults: Readonly<Record<string, unknown>> = vtdConfig();
  const changed = Object.entries(config).filter(([name, value]) => value !== defaults[name]);
  return Object.fromEntries(
    changed.map(([name, value]) => [name, value === true ? 'on' : value === false ? 'off' : String(value)]),
  );
}

function configOf(file: string, header: TraceHeader): VtdConfig {
  const own = header.recorder === 'remora';
  const options = own ? Object.fromEntries(header.options) : optionsOfQemu(header);
  try {
    return vtdConfig(options, 'recorded options');
  } catch (error) {
    if (error instanceof ConfigError) throw new TraceError(file, own ? 2 : 1, error.message, { cause: error });
    throw error;
  }
}

function optionsOfQemu(header: TraceHeader): Record<string, unknown> {
  const cap = Cap.decode(Int32Array.of(header.cap.lo, header.cap.hi));
  const ecap = Ecap.decode(Int32Array.of(header.ecap.lo, header.ecap.hi));
  const choose = (option: string, reported: number | bigint): boolean => {
    const given = header.options.get(option);
    return given === 'on' || given === 'off' ? given === 'on' : Number(reported) === 1;
  };
  return {
    compat: 'qemu-10.2',
    // Checked by vtdConfig(), whose message names the widths.
    'aw-bits': header.addressWidth,
    'caching-mode': header.cachingMode,
    'x-scalable-mode': header.scalableMode ? 'on' : 'off',
    'x-flts': header.firstStage,
    'x-pasid-mode': header.pasidMode,
    'device-iotlb': choose('device-iotlb', ecap.dt),
    'snoop-control': choose('snoop-control', ecap.sc),
    'dma-drain': choose('dma-drain', cap.drd),
    eim: choose('eim', ecap.eim),
    intremap: choose('intremap', ecap.ir),
    pt: choose('pt', ecap.pt),
    fs1gp: !header.firstStage || choose('fs1gp', cap.fs1gp),
  };
}

function checkRegister(file: string, name: string, found: Words, expected: Words): void {
  if (found.hi === expected.hi && found.lo === expected.lo) return;
  const [given, needed] = [found, expected].map(({ hi, lo }) => allDigitsOf(hi, lo));
  throw new TraceError(file, 1, `expected ${name}=${needed}, which the recorded options give, found ${name}=${given}`);
}

function wordsOf(register: Int32Array): Words {
  return { hi: register[1]! >>> 0, lo: register[0]! >>> 0 };
}
