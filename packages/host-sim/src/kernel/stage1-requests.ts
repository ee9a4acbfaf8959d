/**
 * BIND and CACHE_INVALIDATE of RFC v3.1 as the kernel reads them: every field is judged before anything happens. Errnos: vsva.md
 * 3.8, 3.10 and 3.13, decisions.md.
 */
import { isAligned } from '@remora/bits';
import { Errno } from '@remora/core';
import { type Stage1Config, type Stage1Flush, Stage1Format } from '@remora/iommu';
import {
  IOMMU_UAPI_VERSION,
  IommuCache,
  IommuCacheInvalidateInfo,
  IommuGpasidBindData,
  IommuGpasidBindDataVtd,
  IommuInvAddrFlag,
  IommuInvAddrInfo,
  IommuInvGranularity,
  IommuInvPasidFlag,
  IommuInvPasidInfo,
  IommuSvaGpasidFlag,
  IommuSvaVtdFlag,
  type WideField,
} from '@remora/uapi';
import { PASID_LIMIT } from './pasid-space.js';

const ALL_VTD_FLAGS = 0x3f;
const MAX_EMT = 7;
const ALL_CACHES = IommuCache.IOTLB | IommuCache.DEV_IOTLB | IommuCache.PASID;
const SMALLEST_GRANULE_SHIFT = 12;

/** The caches for which each granularity makes sense (vsva.md 3.8). */
const ALLOWED_CACHES: Partial<Record<number, number>> = {
  [IommuInvGranularity.DOMAIN]: IommuCache.IOTLB | IommuCache.PASID,
  [IommuInvGranularity.PASID]: ALL_CACHES,
  [IommuInvGranularity.ADDR]: IommuCache.IOTLB | IommuCache.DEV_IOTLB,
};

export interface BindRequest {
  readonly pasid: number;
  readonly config: Stage1Config;
}

/** The binding that struct iommu_gpasid_bind_data at `at` asks for, or -EINVAL. `format` is the host's Stage1Format. */
export function readBind(view: DataView, at: number, format: number): BindRequest | number {
  const { fields } = IommuGpasidBindData;
  if (fields.version.get(view, at) !== IOMMU_UAPI_VERSION || fields.format.get(view, at) !== format)
    return -Errno.EINVAL;
  if (fields.flags.hi(view, at) !== 0 || (fields.flags.lo(view, at) & ~IommuSvaGpasidFlag.VALID) !== 0)
    return -Errno.EINVAL;
  if (IommuGpasidBindData.hasPadding(view, at)) return -Errno.EINVAL;
  const pasid = readPasid(view, at);
  if (pasid < 0) return pasid;
  const addressWidth = fields.addr_width.get(view, at);
  const rootLo = fields.gpgd.lo(view, at);
  if ((addressWidth !== 48 && addressWidth !== 57) || rootLo % 0x1000 !== 0) return -Errno.EINVAL;
  const vendor = at + fields.vendor.offset;
  const vtd = IommuGpasidBindDataVtd.fields;
  const flags = vtd.flags.lo(view, vendor);
  const emt = vtd.emt.get(view, vendor);
  if (vtd.flags.hi(view, vendor) !== 0 || (flags & ~ALL_VTD_FLAGS) !== 0 || emt > MAX_EMT) return -Errno.EINVAL;
  const has = (flag: number): number => Number((flags & flag) !== 0);
  const attributes = {
    format: Stage1Format.INTEL_VTD,
    sre: has(IommuSvaVtdFlag.SRE),
    eafe: has(IommuSvaVtdFlag.EAFE),
    pcd: has(IommuSvaVtdFlag.PCD),
    pwt: has(IommuSvaVtdFlag.PWT),
    emte: has(IommuSvaVtdFlag.EMTE),
    cd: has(IommuSvaVtdFlag.CD),
    pat: vtd.pat.get(view, vendor),
    emt,
  };
  return { pasid, config: { rootHi: fields.gpgd.hi(view, at), rootLo, addressWidth, attributes } };
}

/** The PASID that struct iommu_gpasid_bind_data at `at` names for the host; -EINVAL for 0 and beyond 20 bits. */
export function readPasid(view: DataView, at: number): number {
  const pasid = IommuGpasidBindData.fields.hpasid.number(view, at);
  return pasid === 0 || pasid >= PASID_LIMIT ? -Errno.EINVAL : pasid;
}

/** The PASID of a flush that names none: all that are bound. */
export const EVERY_PASID = -1;

/**
 * Reads the flush that struct iommu_cache_invalidate_info at `at` asks for into `flush`; its PASID may be EVERY_PASID. 0, or a negated errno.
 * What a unit flushes for one PASID includes its device TLBs and its cached PASID entry. A guest flushes often: nothing is allocated.
 */
export function readFlush(view: DataView, at: number, flush: Stage1Flush): number {
  const { fields } = IommuCacheInvalidateInfo;
  if (fields.version.get(view, at) !== IOMMU_UAPI_VERSION) return -Errno.EINVAL;
  if (IommuCacheInvalidateInfo.hasPadding(view, at)) return -Errno.EINVAL;
  const caches = fields.cache.get(view, at);
  const granularity = fields.granularity.get(view, at);
  const allowed = ALLOWED_CACHES[granularity] ?? 0;
  if (caches === 0 || (caches & ~allowed) !== 0) return -Errno.EINVAL;
  const info = at + fields.info.offset;
  if (granularity === IommuInvGranularity.ADDR) return readAddressFlush(view, info, flush);
  flush.granularity = 'pasid';
  flush.leaf = false;
  flush.pasid = EVERY_PASID;
  return granularity === IommuInvGranularity.PASID ? readPasidFlush(view, info, flush) : 0;
}

function readPasidFlush(view: DataView, at: number, flush: Stage1Flush): number {
  const { fields } = IommuInvPasidInfo;
  const flags = fields.flags.get(view, at);
  // This architecture has no id of its own for an address space: ARCHID alone names nothing.
  if ((flags & ~(IommuInvPasidFlag.PASID | IommuInvPasidFlag.ARCHID)) !== 0) return -Errno.EINVAL;
  if ((flags & IommuInvPasidFlag.PASID) === 0) return -Errno.EINVAL;
  return readPasidOf(view, at, fields.pasid, flush);
}

/** The PASID that a flush names. */
function readPasidOf(view: DataView, at: number, field: WideField, flush: Stage1Flush): number {
  const pasid = field.lo(view, at);
  if (field.hi(view, at) !== 0 || pasid >= PASID_LIMIT) return -Errno.EINVAL;
  flush.pasid = pasid;
  return 0;
}

function readAddressFlush(view: DataView, at: number, flush: Stage1Flush): number {
  const { fields } = IommuInvAddrInfo;
  const flags = fields.flags.get(view, at);
  const known = IommuInvAddrFlag.PASID | IommuInvAddrFlag.ARCHID | IommuInvAddrFlag.LEAF;
  if ((flags & ~known) !== 0) return -Errno.EINVAL;
  const named = (flags & IommuInvAddrFlag.PASID) !== 0;
  if (!named && (flags & IommuInvAddrFlag.ARCHID) !== 0) return -Errno.EINVAL;
  if (!named) flush.pasid = EVERY_PASID;
  else if (readPasidOf(view, at, fields.pasid, flush) !== 0) return -Errno.EINVAL;
  const granuleShift = shiftOf(fields.granule_size.hi(view, at), fields.granule_size.lo(view, at));
  const granules = fields.nb_granules.number(view, at);
  if (granuleShift < SMALLEST_GRANULE_SHIFT || granules === 0) return -Errno.EINVAL;
  const shift = granuleShift + (granules === 1 ? 0 : Math.ceil(Math.log2(granules)));
  if (shift > 64) return -Errno.EINVAL;
  const hi = fields.addr.hi(view, at);
  const lo = fields.addr.lo(view, at);
  if (!isAligned(hi, lo, shift)) return -Errno.ERANGE;
  flush.granularity = 'address';
  flush.leaf = (flags & IommuInvAddrFlag.LEAF) !== 0;
  flush.hi = hi;
  flush.lo = lo;
  flush.granuleShift = granuleShift;
  flush.granules = granules;
  return 0;
}

/** log2 of a power of two; -1 for anything else. */
function shiftOf(hi: number, lo: number): number {
  const word = hi === 0 ? lo : hi;
  if ((hi !== 0 && lo !== 0) || word === 0 || (word & (word - 1)) !== 0) return -1;
  return 31 - Math.clz32(word) + (hi === 0 ? 0 : 32);
}
