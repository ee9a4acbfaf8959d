/** IOMMU_GET_HW_INFO: what the physical IOMMU in front of a device is, and what it can do. */
import {
  IOMMU_GET_HW_INFO,
  IommuHwInfo,
  IommuHwInfoType,
  IommuHwInfoVtd,
  IommuHwInfoVtdFlag,
  viewOf,
} from '@remora/uapi';
import type { Iommufd } from './iommufd.js';

/** ECAP.NEST. */
const ECAP_NEST = 1 << 26;

export interface HardwareInfo {
  /** IommuHwInfoType. */
  readonly type: number;
  /** Width of the PASIDs that the device may use; 0 without PASIDs. */
  readonly pasidBits: number;
  /** IommuHwCap bits. */
  readonly capabilities: number;
  /** For INTEL_VTD: its registers as words, and IommuHwInfoVtdFlag bits. */
  readonly vtd?: {
    readonly flags: number;
    readonly cap: { readonly hi: number; readonly lo: number };
    readonly ecap: { readonly hi: number; readonly lo: number };
  };
}

/** What the host tells of the IOMMU in front of `device`; or a negated errno. */
export function readHardwareInfo(iommufd: Iommufd, device: number): HardwareInfo | number {
  const room = IommuHwInfoVtd.size;
  iommufd.payload.put(new Uint8Array(room));
  const bytes = IommuHwInfo.encode({
    size: IommuHwInfo.size,
    dev_id: device,
    data_len: room,
    data_uptr: iommufd.payload.address,
  });
  const result = iommufd.syscalls.ioctl(iommufd.fd, IOMMU_GET_HW_INFO, bytes);
  if (result < 0) return result;
  const view = viewOf(bytes);
  const { out_data_type, out_max_pasid_log2, out_capabilities } = IommuHwInfo.fields;
  const common = {
    type: out_data_type.get(view),
    pasidBits: out_max_pasid_log2.get(view),
    capabilities: out_capabilities.lo(view),
  };
  if (common.type !== IommuHwInfoType.INTEL_VTD) return common;
  const data = new Uint8Array(room);
  iommufd.payload.get(data);
  const vtd = viewOf(data);
  const { flags, cap_reg, ecap_reg } = IommuHwInfoVtd.fields;
  return {
    ...common,
    vtd: {
      flags: flags.get(vtd),
      cap: { hi: cap_reg.hi(vtd), lo: cap_reg.lo(vtd) },
      ecap: { hi: ecap_reg.hi(vtd), lo: ecap_reg.lo(vtd) },
    },
  };
}

/** Why a VT-d guest's first stage cannot be nested there; undefined if it can. */
export function nestingProblem({ type, vtd }: HardwareInfo): string | undefined {
  if (vtd === undefined) {
    return `the host's IOMMU is of type ${type}, only ${IommuHwInfoType.INTEL_VTD} (Intel VT-d) is known`;
  }
  if ((vtd.ecap.lo & ECAP_NEST) === 0) return "the host's IOMMU does not nest (ECAP.NEST is clear)";
  return undefined;
}

/** Whether memory that may only be read can lie below a nested table. Linux says of every VT-d unit that it has erratum 772415, and cannot. */
export function nestsReadOnly({ vtd }: HardwareInfo): boolean {
  return vtd === undefined || (vtd.flags & IommuHwInfoVtdFlag.ERRATA_772415_SPR17) === 0;
}
