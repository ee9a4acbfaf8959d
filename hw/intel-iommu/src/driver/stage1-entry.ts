/** From a neutral first-stage configuration to the fields of a nested PASID entry. */
import { frameOf } from '@remora/bits';
import { Errno } from '@remora/core';
import { Stage1Format, type Stage1Config } from '@remora/iommu';
import { Pgtt } from '../spec/index.js';
import type { VtdCapabilities } from './capabilities.js';
import { type PasidValues, secondStagePasid, type TableRoot } from './entry-values.js';

const PAGE_OFFSET = 0xfff;

/**
 * The entry that nests `config` over `second`. -EINVAL where this unit cannot do what `config` says, as Linux's host driver of that
 * time has it (vsva.md 3.9, 3.13): another format or width, a root that is not page-aligned, SRE without ECAP.SRS, EAFE without
 * ECAP.EAFS, and any of the memory-type flags (CD, EMTE, PCD, PWT), which stand for processor-coherent devices. The values of PAT and
 * EMT mean nothing without those flags and are passed over.
 */
export function nestedEntry(
  config: Stage1Config,
  second: TableRoot,
  domain: number,
  capabilities: VtdCapabilities,
): PasidValues | number {
  const { attributes } = config;
  const { cap, ecap } = capabilities;
  const five = config.addressWidth === 57;
  if (attributes.format !== Stage1Format.INTEL_VTD || ecap.nest === 0) return -Errno.EINVAL;
  if (!five && config.addressWidth !== 48) return -Errno.EINVAL;
  if (five && cap.fs5lp === 0) return -Errno.EINVAL;
  if ((config.rootLo & PAGE_OFFSET) !== 0) return -Errno.EINVAL;
  if (attributes.sre !== 0 && ecap.srs === 0) return -Errno.EINVAL;
  if (attributes.eafe !== 0 && ecap.eafs === 0) return -Errno.EINVAL;
  if ((attributes.cd | attributes.emte | attributes.pcd | attributes.pwt) !== 0) return -Errno.EINVAL;
  return secondStagePasid(second, domain, {
    pgtt: Pgtt.NESTED,
    fsptptr: frameOf(config.rootHi, config.rootLo),
    fspm: Number(five),
    sre: attributes.sre,
    eafe: attributes.eafe,
    pwsnp: ecap.smpwcs,
  });
}
