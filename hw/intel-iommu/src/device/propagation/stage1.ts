/** From a guest's PASID entry to what a host binds [A14]. */
import { PasidEntry } from '../../spec/index.js';
import { Stage1Format, type Stage1Config, type VtdStage1 } from '@remora/iommu';

/**
 * The first stage that a PASID entry describes. Attributes are passed on as they are: whether the host can honour them is the
 * host's to say. `collapse` is quirk Q1.
 */
export function stage1Of(entry: Int32Array, at: number, collapse: boolean): Stage1Config {
  const fields = PasidEntry.fields;
  const attributes: VtdStage1 = {
    format: Stage1Format.INTEL_VTD,
    sre: fields.sre.get(entry, at),
    eafe: fields.eafe.get(entry, at),
    pcd: fields.pcd.get(entry, at),
    pwt: fields.pwt.get(entry, at),
    emte: fields.emte.get(entry, at),
    cd: fields.cd.get(entry, at),
    pat: fields.pat.get(entry, at),
    emt: fields.emt.get(entry, at),
  };
  return {
    rootHi: entry[at + fields.fsptptr.word + 1]!,
    rootLo: entry[at + fields.fsptptr.word]! & ~0xfff,
    addressWidth: 48 + 9 * fields.fspm.get(entry, at),
    attributes: collapse ? collapsed(attributes) : attributes,
  };
}

function collapsed(attributes: VtdStage1): VtdStage1 {
  const { sre, eafe, pcd, pwt, emte, cd } = attributes;
  return { ...attributes, sre: sre | eafe | pcd | pwt | emte | cd, eafe: 0, pcd: 0, pwt: 0, emte: 0, cd: 0 };
}
