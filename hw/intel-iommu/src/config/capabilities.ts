import { Cap, Ecap } from '../spec/index.js';
import type { VtdConfig } from './options.js';
import { isScalable, offersFirstStage, offersSecondStage, pasidBits } from './validate.js';

/** Where QEMU puts the fault records and the IOTLB registers, in units of 16 bytes. */
const FAULT_RECORD_OFFSET = 0x22;
const IOTLB_REGISTER_OFFSET = 0x0f;
/** 16-bit domain ids. */
const DOMAINS_CODE = 6;
const MAX_ADDRESS_MASK = 18;
/** Second-stage pages of 2 MiB and 1 GiB. */
const LARGE_PAGES = 3;
const MAX_HANDLE_MASK = 15;

/** SAGAW: every width up to the configured one. */
function supportedWidths(bits: number): number {
  return (bits >= 39 ? 2 : 0) | (bits >= 48 ? 4 : 0) | (bits >= 57 ? 8 : 0);
}

/** CAP (vtd.md 2.3), as `[low, high]` dwords. */
export function capabilityRegister(config: VtdConfig): Int32Array {
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
    // RFC v3.1's modes have QEMU's CAP, which knew no 1 GiB pages in the first stage.
    fs1gp: Number((config['x-flts'] || config.nesting) && config.fs1gp),
    pi: Number(config['x-pi']),
    fs5lp: Number(config['aw-bits'] === 57 && offersFirstStage(config)),
    esrtps: 1,
  });
}

/** ECAP (vtd.md 2.3, vsva.md 4.1), as `[low, high]` dwords. */
export function extendedCapabilityRegister(config: VtdConfig): Int32Array {
  const scalable = isScalable(config);
  const modern = config['x-scalable-mode'] === 'modern';
  const { nesting } = config;
  const firstStage = offersFirstStage(config);
  const secondStage = offersSecondStage(config);
  const pasids = pasidBits(config);
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
    srs: Number(secondStage || modern || nesting),
    ssts: Number(secondStage),
    fsts: Number(firstStage),
    nest: Number(nesting),
    pasid: Number(pasids > 0),
    pss: pasids > 0 ? pasids - 1 : 0,
    prs: Number(config.svm),
    pds: Number(config.svm && config['x-pds']),
    nwfs: Number(config.svm && config['x-nwfs']),
    dit: Number(config['x-dit']),
    vcs: Number(modern),
    ssads: Number(config['x-ssads']),
    smpwcs: Number(config['x-smpwcs']),
    eafs: Number(config['x-eafs']),
    ers: Number(config['x-ers']),
    rps: Number(config['x-rps']),
  });
}
