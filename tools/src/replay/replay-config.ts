/** From the header of a recording to the options of a model that is to answer like the recorded one. */
import { Cap, capabilityRegister, Ecap, extendedCapabilityRegister, vtdConfig, type VtdConfig } from '@hw/intel-iommu';
import { ConfigError } from '@remora/core';
import { TraceError } from './trace-error.js';
import type { TraceHeader } from './trace-reader.js';
import { allDigitsOf, type Words } from './words.js';

/**
 * The configuration of the recorded unit. What the header does not name comes from the recorded command line or, where that is
 * silent (QEMU's defaults depend on the machine), from CAP and ECAP.
 * @throws TraceError unless a model of that configuration reports the header's CAP and ECAP.
 */
export function replayConfig(file: string, header: TraceHeader): VtdConfig {
  const config = configOf(file, header);
  checkRegister(file, 'cap', header.cap, capabilityRegister(config));
  checkRegister(file, 'ecap', header.ecap, extendedCapabilityRegister(config));
  return config;
}

function configOf(file: string, header: TraceHeader): VtdConfig {
  const cap = Cap.decode(Int32Array.of(header.cap.lo, header.cap.hi));
  const ecap = Ecap.decode(Int32Array.of(header.ecap.lo, header.ecap.hi));
  const choose = (option: string, reported: number | bigint): boolean => {
    const given = header.options.get(option);
    return given === 'on' || given === 'off' ? given === 'on' : Number(reported) === 1;
  };
  try {
    return vtdConfig(
      {
        compat: 'qemu-10.2',
        // Checked by vtdConfig(), whose message names the widths.
        'aw-bits': header.addressWidth as VtdConfig['aw-bits'],
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
      },
      'recorded options',
    );
  } catch (error) {
    if (error instanceof ConfigError) throw new TraceError(file, 1, error.message, { cause: error });
    throw error;
  }
}

function checkRegister(file: string, name: string, expected: Words, got: Int32Array): void {
  const [lo, hi] = [got[0]! >>> 0, got[1]! >>> 0];
  if (hi === expected.hi && lo === expected.lo) return;
  const found = allDigitsOf(expected.hi, expected.lo);
  throw new TraceError(
    file,
    1,
    `expected ${name}=${allDigitsOf(hi, lo)}, which the recorded options give, found ${name}=${found}`,
  );
}
