/** ioctls by number, for people: name, argsz and decoded fields. Numbers alone decide nothing; a host that means others may. */
import {
  IommuCacheInvalidateInfo,
  IommuGpasidBindData,
  IommuGpasidBindDataVtd,
  IommuInvAddrInfo,
  IommuInvGranularity,
  IommuInvPasidInfo,
  type StructType,
  VFIO_CHECK_EXTENSION,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_CACHE_INVALIDATE,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_PASID_REQUEST,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
  VfioDeviceInfo,
  VfioGroupStatus,
  VfioIommuType1Bind,
  VfioIommuType1CacheInvalidate,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  VfioIommuType1Info,
  VfioIommuType1PasidRequest,
  VfioIrqInfo,
  VfioIrqSet,
  VfioRegionInfo,
  viewOf,
} from '@remora/uapi';
import type { IoctlArgument } from './syscalls.js';

export interface IoctlDescription {
  readonly number: number;
  /** `VFIO_IOMMU_BIND`, or `0x3bff` for one without a name here. */
  readonly name: string;
  /** The structure's first word; absent where there is no structure with one. */
  readonly argsz?: number;
  /** By field name; nested structures under their field's name. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

type Fields = Record<string, unknown>;
type Decode = (view: DataView) => Fields;

const NAMES: ReadonlyMap<number, readonly [name: string, decode?: Decode]> = new Map<number, [string, Decode?]>([
  [VFIO_GET_API_VERSION, ['VFIO_GET_API_VERSION']],
  [VFIO_CHECK_EXTENSION, ['VFIO_CHECK_EXTENSION']],
  [VFIO_SET_IOMMU, ['VFIO_SET_IOMMU']],
  [VFIO_GROUP_GET_STATUS, ['VFIO_GROUP_GET_STATUS', plain(VfioGroupStatus)]],
  [VFIO_GROUP_SET_CONTAINER, ['VFIO_GROUP_SET_CONTAINER']],
  [VFIO_GROUP_UNSET_CONTAINER, ['VFIO_GROUP_UNSET_CONTAINER']],
  [VFIO_GROUP_GET_DEVICE_FD, ['VFIO_GROUP_GET_DEVICE_FD']],
  [VFIO_DEVICE_GET_INFO, ['VFIO_DEVICE_GET_INFO', plain(VfioDeviceInfo)]],
  [VFIO_DEVICE_GET_REGION_INFO, ['VFIO_DEVICE_GET_REGION_INFO', plain(VfioRegionInfo)]],
  [VFIO_DEVICE_GET_IRQ_INFO, ['VFIO_DEVICE_GET_IRQ_INFO', plain(VfioIrqInfo)]],
  [VFIO_DEVICE_SET_IRQS, ['VFIO_DEVICE_SET_IRQS', plain(VfioIrqSet)]],
  [VFIO_DEVICE_RESET, ['VFIO_DEVICE_RESET']],
  [VFIO_IOMMU_GET_INFO, ['VFIO_IOMMU_GET_INFO', plain(VfioIommuType1Info)]],
  [VFIO_IOMMU_MAP_DMA, ['VFIO_IOMMU_MAP_DMA', plain(VfioIommuType1DmaMap)]],
  [VFIO_IOMMU_UNMAP_DMA, ['VFIO_IOMMU_UNMAP_DMA', plain(VfioIommuType1DmaUnmap)]],
  [VFIO_IOMMU_PASID_REQUEST, ['VFIO_IOMMU_PASID_REQUEST', plain(VfioIommuType1PasidRequest)]],
  [VFIO_IOMMU_BIND, ['VFIO_IOMMU_BIND', decodeBind]],
  [VFIO_IOMMU_CACHE_INVALIDATE, ['VFIO_IOMMU_CACHE_INVALIDATE', decodeFlush]],
]);

/** What an ioctl says. Bytes that are too short for their structure are described by name only. */
export function describeIoctl(request: number, argument: IoctlArgument): IoctlDescription {
  const [name, decode] = NAMES.get(request) ?? [`0x${request.toString(16)}`];
  if (decode === undefined || !(argument instanceof Uint8Array)) return { number: request, name };
  try {
    const { argsz, ...fields } = decode(viewOf(argument));
    return { number: request, name, argsz: Number(argsz), fields };
  } catch (error) {
    if (error instanceof RangeError) return { number: request, name };
    throw error;
  }
}

function plain(type: Pick<StructType, 'decode'>): Decode {
  return view => ({ ...type.decode(view) });
}

function decodeBind(view: DataView): Fields {
  const at = VfioIommuType1Bind.size;
  const { vendor, ...data } = IommuGpasidBindData.decode(view, at);
  const vtd = IommuGpasidBindDataVtd.decode(viewOf(vendor as Uint8Array));
  return { ...VfioIommuType1Bind.decode(view), data: { ...data, vtd } };
}

function decodeFlush(view: DataView): Fields {
  const { cache_info, ...outer } = VfioIommuType1CacheInvalidate.decode(view);
  const { info, ...header } = IommuCacheInvalidateInfo.decode(viewOf(cache_info as Uint8Array));
  const inner = viewOf(info as Uint8Array);
  const which: Fields =
    header.granularity === IommuInvGranularity.ADDR
      ? { addr_info: IommuInvAddrInfo.decode(inner) }
      : header.granularity === IommuInvGranularity.PASID
        ? { pasid_info: IommuInvPasidInfo.decode(inner) }
        : {};
  return { ...outer, cache_info: { ...header, ...which } };
}
