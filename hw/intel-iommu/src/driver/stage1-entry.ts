/** From a neutral first-stage configuration to the fields of a nested PASID entry. */
import { frameOf } from '@remora/bits';
import { Errno } from '@remora/core';
import { Stage1Format, type Stage1Config } from '@remora/iommu';
import { Pgtt } from '../spec/index.js';
import type { VtdCapabilities } from './capabilities.js';
import { type PasidValues, secondStagePasid, type TableRoot } from './entry-values.js';

const PAGE_OFFSET = 0xfff;

/** A first stage in the words of a PASID entry. Flags are 0 or 1. */
export interface FirstStage {
  /** Byte address of the root, for whom the second stage translates it. */
  readonly rootHi: number;
  readonly rootLo: number;
  /** Input address width in bits: 48 or 57. */
  readonly addressWidth: number;
  readonly sre: number;
  readonly eafe: number;
  readonly wpe: number;
}

/**
 * The entry that nests `first` over `second`; of its root the page counts. -EINVAL where this unit cannot do that: another width, SRE without
 * ECAP.SRS, EAFE without ECAP.EAFS.
 */
export function nestedValues(
  first: FirstStage,
  second: TableRoot,
  domain: number,
  { cap, ecap }: VtdCapabilities,
): PasidValues | number {
  const five = first.addressWidth === 57;
  if (ecap.nest === 0 || (!five && first.addressWidth !== 48) || (five && cap.fs5lp === 0)) return -Errno.EINVAL;
  if ((first.sre !== 0 && ecap.srs === 0) || (first.eafe !== 0 && ecap.eafs === 0)) return -Errno.EINVAL;
  return secondStagePasid(second, domain, {
    pgtt: Pgtt.NESTED,
    fsptptr: frameOf(first.rootHi, first.rootLo),
    fspm: Number(five),
    sre: first.sre,
    eafe: first.eafe,
    wpe: first.wpe,
    pwsnp: ecap.smpwcs,
  });
}

/**
 * The entry that nests `config` over `second`. -EINVAL where this unit cannot do what `config` says, as Linux's host driver of that
 * time has it (vsva.md 3.9, 3.13): what nestedValues refuses, another format, a root that is not page-aligned, and any of the memory-type flags
 * (CD, EMTE, PCD, PWT), which stand for processor-coherent devices. The values of PAT and EMT mean nothing without those flags and are passed over.
 */
export function nestedEntry(
  config: Stage1Config,
  second: TableRoot,
  domain: number,
  capabilities: VtdCapabilities,
): PasidValues | number {
  const { attributes, rootHi, rootLo, addressWidth } = config;
  if (attributes.format !== Stage1Format.INTEL_VTD || (rootLo & PAGE_OFFSET) !== 0) return -Errno.EINVAL;
  if ((attributes.cd | attributes.emte | attributes.pcd | attributes.pwt) !== 0) return -Errno.EINVAL;
  const { sre, eafe } = attributes;
  return nestedValues({ rootHi, rootLo, addressWidth, sre, eafe, wpe: 0 }, second, domain, capabilities);
}
