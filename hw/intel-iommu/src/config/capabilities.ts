import { Cap, Ecap } from '../spec/index.js';
import type { VtdConfig } from './options.js';
import { isScalable } from './validate.js';

/** Where QEMU puts the fault records and the IOTLB registers, in units of 16 bytes. */
const FAULT_RECORD_OFFSET = 0x22;
const IOTLB_REGISTER_OFFSET = 0x0f;
/** 16-bit domain ids. */
const DOMAINS_CODE = 6;
const MAX_ADDRESS_MASK = 18;
/** Second-stage pages of 2 MiB and 1 GiB. */
const LARGE_PAGES = 3;
const MAX_HANDLE_MASK = 15;
const PASID_BITS = 20;
/** QEMU's x-pasid-mode offers 8-bit PASIDs. */
const QEMU_PASID_BITS = 8;

/** SAGAW: every width up to the configured one. */
function supportedWidths(bits: number): number {
  return (bits >= 39 ? 2 : 0) | (bits >= 48 ? 4 : 0) | (bits >= 57 ? 8 : 0);
}

/** CAP (vtd.md 2.3), as `[low, high]` dwords. */
export function capabilityRegister(config: VtdConfig): Int32Array {
  const firstStage = config['x-flts'] || config.nesting;
  const drain = Number(config['dma-drain']);
  return Cap.encode({
    nd: DOMAINS_CODE,
    cm: Number(config['caching-mode']),
    sagaw: supportedWidths(config['aw-bits']),
    mgaw: config['aw-bits'] - 1,
    fro: FAULT_RECORD_OFFSET,
    sslps: LARGE_PAGES,
    psi: 1,
    nfr: config['fault-records'] - 1,
    mamv: MAX_ADDRESS_MASK,
    dwd: drain,
    drd: drain,
    fs1gp: Number(firstStage && config.fs1gp),
    pi: Number(config['x-pi']),
    fs5lp: Number(config['aw-bits'] === 57 && (firstStage || config['x-scalable-mode'] === 'modern')),
    esrtps: 1,
  });
}

/** ECAP (vtd.md 2.3, vsva.md 4.1), as `[low, high]` dwords. */
export function extendedCapabilityRegister(config: VtdConfig): Int32Array {
  const scalable = isScalable(config);
  const modern = config['x-scalable-mode'] === 'modern';
  const { nesting } = config;
  const firstStage = scalable && (config['x-flts'] || modern || nesting);
  const secondStage = scalable && (nesting || !firstStage);
  const widePasids = modern || nesting;
  const pasids = widePasids || config['x-pasid-mode'];
  return Ecap.encode({
    qi: 1,
    iro: IOTLB_REGISTER_OFFSET,
    pt: Number(config.pt),
    dt: Number(config['device-iotlb']),
    sc: Number(config['snoop-control']),
    ir: Number(config.intremap),
    eim: Number(config.eim),
    mhmv: config.intremap ? MAX_HANDLE_MASK : 0,
    smts: Number(scalable),
    // QEMU offers supervisor requests with second-stage tables only; RFC v3.1 with first-stage ones too.
    srs: Number(secondStage || widePasids),
    ssts: Number(secondStage),
    fsts: Number(firstStage),
    nest: Number(nesting),
    pasid: Number(pasids),
    pss: pasids ? (widePasids ? PASID_BITS : QEMU_PASID_BITS) - 1 : 0,
    vcs: Number(modern),
    ssads: Number(config['x-ssads']),
    smpwcs: Number(config['x-smpwcs']),
    eafs: Number(config['x-eafs']),
    rps: Number(config['x-rps']),
  });
}
