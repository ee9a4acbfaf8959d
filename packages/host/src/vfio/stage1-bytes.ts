/** A first-stage configuration and its flushes as the bytes of RFC v3.1 [A08, A13, A14, A18, A20]. */
import { Stage1Format, type Stage1Config, type Stage1Flush, type VtdStage1 } from '@remora/iommu';
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
  VfioBindFlag,
  VfioIommuType1Bind,
  VfioIommuType1CacheInvalidate,
  VfioIommuType1PasidRequest,
  VfioPasidRequestFlag,
  viewOf,
} from '@remora/uapi';
import type { VfioQuirks } from './options.js';

const BIND_BYTES = VfioIommuType1Bind.size + IommuGpasidBindData.size;
const BIND_DATA = VfioIommuType1Bind.size;
const VENDOR = BIND_DATA + IommuGpasidBindData.fields.vendor.offset;
const CACHE_INFO = VfioIommuType1CacheInvalidate.fields.cache_info.offset;
const INFO = CACHE_INFO + IommuCacheInvalidateInfo.fields.info.offset;
/** RFC v3.1 counted the information twice (vsva.md A18). */
const LITERAL_FLUSH_BYTES = VfioIommuType1CacheInvalidate.size + IommuCacheInvalidateInfo.size;

/** PASID_REQUEST that allocates from [min, max]. */
export function pasidAllocBytes(min: number, max: number): Uint8Array {
  return VfioIommuType1PasidRequest.encode({
    argsz: VfioIommuType1PasidRequest.size,
    flags: VfioPasidRequestFlag.ALLOC,
    min,
    max,
  });
}

/** PASID_REQUEST that frees; what the structure has beyond the PASID is zero. */
export function pasidFreeBytes(pasid: number): Uint8Array {
  return VfioIommuType1PasidRequest.encode({
    argsz: VfioIommuType1PasidRequest.size,
    flags: VfioPasidRequestFlag.FREE,
    free_pasid: pasid,
  });
}

export function bindBytes(pasid: number, config: Stage1Config, quirks: VfioQuirks): Uint8Array {
  const bytes = bindHeader(VfioBindFlag.BIND_GUEST_PGTBL, pasid);
  const view = viewOf(bytes);
  const data = IommuGpasidBindData.fields;
  data.gpgd.set(view, config.rootHi, config.rootLo, BIND_DATA);
  data.addr_width.set(view, config.addressWidth, BIND_DATA);
  const vtd = IommuGpasidBindDataVtd.fields;
  vtd.flags.set(view, 0, attributeFlags(config.attributes, quirks), VENDOR);
  vtd.pat.set(view, config.attributes.pat, VENDOR);
  vtd.emt.set(view, config.attributes.emt, VENDOR);
  return bytes;
}

export function unbindBytes(pasid: number): Uint8Array {
  return bindHeader(VfioBindFlag.UNBIND_GUEST_PGTBL, pasid);
}

function bindHeader(flags: number, pasid: number): Uint8Array {
  const bytes = new Uint8Array(BIND_BYTES);
  const view = viewOf(bytes);
  VfioIommuType1Bind.fields.argsz.set(view, BIND_BYTES);
  VfioIommuType1Bind.fields.flags.set(view, flags);
  const data = IommuGpasidBindData.fields;
  data.version.set(view, IOMMU_UAPI_VERSION, BIND_DATA);
  data.format.set(view, Stage1Format.INTEL_VTD, BIND_DATA);
  data.flags.set(view, 0, IommuSvaGpasidFlag.VALID, BIND_DATA);
  // Guest PASID and host PASID are the same number (vsva.md 1.3).
  data.hpasid.set(view, 0, pasid, BIND_DATA);
  data.gpasid.set(view, 0, pasid, BIND_DATA);
  return bytes;
}

function attributeFlags(stage1: VtdStage1, quirks: VfioQuirks): number {
  const flags =
    (stage1.sre === 0 ? 0 : IommuSvaVtdFlag.SRE) |
    (stage1.eafe === 0 ? 0 : IommuSvaVtdFlag.EAFE) |
    (stage1.pcd === 0 ? 0 : IommuSvaVtdFlag.PCD) |
    (stage1.pwt === 0 ? 0 : IommuSvaVtdFlag.PWT) |
    (stage1.emte === 0 ? 0 : IommuSvaVtdFlag.EMTE) |
    (stage1.cd === 0 ? 0 : IommuSvaVtdFlag.CD);
  return quirks.attributeFlags === true && flags !== 0 ? 1 : flags;
}

/** Encodes flushes into buffers that are used again and again: a guest flushes far too often to allocate, or to write what stays the same. */
export class FlushBytes {
  readonly #pasid: Uint8Array;
  readonly #pasidView: DataView;
  readonly #address: Uint8Array;
  readonly #addressView: DataView;

  constructor(quirks: VfioQuirks) {
    const size = quirks.flushArgsz === true ? LITERAL_FLUSH_BYTES : VfioIommuType1CacheInvalidate.size;
    this.#pasid = flushHeader(size, IommuInvGranularity.PASID);
    this.#pasidView = viewOf(this.#pasid);
    IommuInvPasidInfo.fields.flags.set(this.#pasidView, IommuInvPasidFlag.PASID, INFO);
    this.#address = flushHeader(size, IommuInvGranularity.ADDR);
    this.#addressView = viewOf(this.#address);
  }

  /** CACHE_INVALIDATE of the first stage; valid until the next call. */
  encode(flush: Stage1Flush): Uint8Array {
    if (flush.granularity === 'pasid') {
      IommuInvPasidInfo.fields.pasid.set(this.#pasidView, 0, flush.pasid, INFO);
      return this.#pasid;
    }
    const view = this.#addressView;
    const info = IommuInvAddrInfo.fields;
    info.flags.set(view, IommuInvAddrFlag.PASID | (flush.leaf ? IommuInvAddrFlag.LEAF : 0), INFO);
    info.pasid.set(view, 0, flush.pasid, INFO);
    info.addr.set(view, flush.hi, flush.lo, INFO);
    const shift = flush.granuleShift;
    info.granule_size.set(view, shift < 32 ? 0 : 1 << (shift - 32), shift < 32 ? 1 << shift : 0, INFO);
    info.nb_granules.setWide(view, flush.granules, INFO);
    return this.#address;
  }
}

function flushHeader(size: number, granularity: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  VfioIommuType1CacheInvalidate.fields.argsz.set(view, size);
  const header = IommuCacheInvalidateInfo.fields;
  header.version.set(view, IOMMU_UAPI_VERSION, CACHE_INFO);
  header.cache.set(view, IommuCache.IOTLB, CACHE_INFO);
  header.granularity.set(view, granularity, CACHE_INFO);
  return bytes;
}
