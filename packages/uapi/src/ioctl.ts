/**
 * The ioctls of VFIO and iommufd by number: what a request is called and what its argument says. For the ledger, messages and tests; nothing
 * here throws for what a caller passed.
 */
import { formatValues } from './format.js';
import { type IoctlType, type IoctlValues as Values, structIoctl as type } from './ioctl-type.js';
import { IOMMUFD_IOCTLS } from './iommufd-ioctls.js';
import { IommuGpasidBindData } from './rfc-iommu.js';
import * as rfc from './rfc-vfio.js';
import { viewOf } from './struct.js';
import * as vfio from './vfio.js';

/**
 * The VMID series re-uses numbers of RFC v3.1 (0x3B7A, 0x3B7B): a kernel, and a container of a simulated one, speaks one variant.
 */
export const UAPI_VARIANTS = ['vsva-rfc-v3.1', 'vmid-rfc-v2'] as const;
export type UapiVariant = (typeof UAPI_VARIANTS)[number];

const COMMON: readonly IoctlType[] = [
  { name: 'VFIO_GET_API_VERSION', request: vfio.VFIO_GET_API_VERSION },
  { name: 'VFIO_CHECK_EXTENSION', request: vfio.VFIO_CHECK_EXTENSION },
  { name: 'VFIO_SET_IOMMU', request: vfio.VFIO_SET_IOMMU },
  type('VFIO_GROUP_GET_STATUS', vfio.VFIO_GROUP_GET_STATUS, vfio.VfioGroupStatus),
  type('VFIO_GROUP_SET_CONTAINER', vfio.VFIO_GROUP_SET_CONTAINER, vfio.VfioContainerFd),
  { name: 'VFIO_GROUP_UNSET_CONTAINER', request: vfio.VFIO_GROUP_UNSET_CONTAINER },
  { name: 'VFIO_GROUP_GET_DEVICE_FD', request: vfio.VFIO_GROUP_GET_DEVICE_FD },
  type('VFIO_DEVICE_GET_INFO', vfio.VFIO_DEVICE_GET_INFO, vfio.VfioDeviceInfo),
  type('VFIO_DEVICE_GET_REGION_INFO', vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.VfioRegionInfo),
  type('VFIO_DEVICE_GET_IRQ_INFO', vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.VfioIrqInfo),
  type('VFIO_DEVICE_SET_IRQS', vfio.VFIO_DEVICE_SET_IRQS, vfio.VfioIrqSet, irqSetData),
  { name: 'VFIO_DEVICE_RESET', request: vfio.VFIO_DEVICE_RESET },
  type('VFIO_DEVICE_FEATURE', vfio.VFIO_DEVICE_FEATURE, vfio.VfioDeviceFeature, featureData),
  type('VFIO_IOMMU_GET_INFO', vfio.VFIO_IOMMU_GET_INFO, vfio.VfioIommuType1Info, capabilities),
  type('VFIO_IOMMU_MAP_DMA', vfio.VFIO_IOMMU_MAP_DMA, vfio.VfioIommuType1DmaMap),
  type('VFIO_IOMMU_UNMAP_DMA', vfio.VFIO_IOMMU_UNMAP_DMA, vfio.VfioIommuType1DmaUnmap),
  ...IOMMUFD_IOCTLS,
];

const BY_VARIANT: Readonly<Record<UapiVariant, ReadonlyMap<number, IoctlType>>> = {
  'vsva-rfc-v3.1': byNumber([
    ...COMMON,
    type('VFIO_IOMMU_PASID_REQUEST', rfc.VFIO_IOMMU_PASID_REQUEST, rfc.VfioIommuType1PasidRequest),
    type('VFIO_IOMMU_BIND', rfc.VFIO_IOMMU_BIND, rfc.VfioIommuType1Bind, bindData),
    type('VFIO_IOMMU_CACHE_INVALIDATE', rfc.VFIO_IOMMU_CACHE_INVALIDATE, rfc.VfioIommuType1CacheInvalidate),
  ]),
  'vmid-rfc-v2': byNumber([
    ...COMMON,
    type('VFIO_IOMMU_GET_VMID', rfc.VFIO_IOMMU_GET_VMID, rfc.VfioContainerVmid),
    { name: 'VFIO_IOMMU_SET_VMID', request: rfc.VFIO_IOMMU_SET_VMID },
  ]),
};

const FEATURES: ReadonlyMap<number, { readonly size: number; decode(view: DataView, at: number): Values }> = new Map<
  number,
  { readonly size: number; decode(view: DataView, at: number): Values }
>([
  [vfio.VFIO_DEVICE_FEATURE_MIGRATION, vfio.VfioDeviceFeatureMigration],
  [vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, vfio.VfioDeviceFeatureMigState],
]);

/** What `request` is in a kernel of this variant; undefined if it has no such ioctl. */
export function ioctlType(request: number, variant: UapiVariant = 'vsva-rfc-v3.1'): IoctlType | undefined {
  return BY_VARIANT[variant].get(request);
}

/** All ioctls of a variant, by ascending number. */
export function ioctlTypes(variant: UapiVariant = 'vsva-rfc-v3.1'): IoctlType[] {
  return [...BY_VARIANT[variant].values()].sort((a, b) => a.request - b.request);
}

/** `VFIO_IOMMU_BIND`, or `0x3b99` for a number without a name. */
export function ioctlName(request: number, variant: UapiVariant = 'vsva-rfc-v3.1'): string {
  return ioctlType(request, variant)?.name ?? `0x${request.toString(16)}`;
}

/**
 * The argument as values: a structure's fields with what follows it, `{ value }` of an integer, `{ text }` of a device's name, `{}`
 * of no argument. Bytes that are too short for their structure, or that belong to an unknown request, come as `{ bytes }`.
 */
export function decodeIoctl(
  request: number,
  argument: Uint8Array | number | undefined,
  variant: UapiVariant = 'vsva-rfc-v3.1',
): Values {
  if (argument === undefined) return {};
  if (typeof argument === 'number') return { value: argument };
  if (request === vfio.VFIO_GROUP_GET_DEVICE_FD) return { text: textOf(argument) };
  const known = ioctlType(request, variant);
  if (known?.struct === undefined || argument.length < known.struct.size) return { bytes: argument.slice() };
  const view = viewOf(argument);
  const values: Values = known.struct.decode(view);
  return known.rest === undefined ? values : { ...values, ...known.rest(view, values) };
}

/** `VFIO_IOMMU_PASID_REQUEST argsz=0x14 flags=2 free_pasid=5` */
export function formatIoctl(
  request: number,
  argument: Uint8Array | number | undefined,
  variant: UapiVariant = 'vsva-rfc-v3.1',
): string {
  return `${ioctlName(request, variant)} ${formatValues(decodeIoctl(request, argument, variant))}`.trimEnd();
}

function byNumber(types: readonly IoctlType[]): ReadonlyMap<number, IoctlType> {
  const map = new Map(types.map(known => [known.request, known]));
  if (map.size !== types.length) throw new RangeError('two ioctls of one variant have the same number');
  return map;
}

function textOf(argument: Uint8Array): string {
  const end = argument.indexOf(0);
  return String.fromCharCode(...argument.subarray(0, end < 0 ? argument.length : end));
}

function bindData(view: DataView): Values {
  const start = rfc.VfioIommuType1Bind.fields.data.offset;
  if (view.byteLength < start + IommuGpasidBindData.size) return {};
  return { data: IommuGpasidBindData.decode(view, start) };
}

function irqSetData(view: DataView, values: Readonly<Values>): Values {
  const flags = Number(values['flags']);
  const size = (flags & vfio.VfioIrqSetFlag.DATA_EVENTFD) !== 0 ? 4 : 1;
  if ((flags & vfio.VFIO_IRQ_SET_DATA_TYPE_MASK & ~vfio.VfioIrqSetFlag.DATA_NONE) === 0) return {};
  const start = vfio.VfioIrqSet.fields.data.offset;
  const count = Math.min(Number(values['count']), Math.floor((view.byteLength - start) / size));
  const at = (index: number): number => start + index * size;
  return {
    data: Array.from({ length: count }, (_, index) =>
      size === 4 ? view.getInt32(at(index), true) : view.getUint8(at(index)),
    ),
  };
}

/** What GET and SET of the migration features move. */
function featureData(view: DataView, values: Readonly<Values>): Values {
  const flags = Number(values['flags']);
  const moves = (flags & (vfio.VfioDeviceFeatureFlag.GET | vfio.VfioDeviceFeatureFlag.SET)) !== 0;
  const start = vfio.VfioDeviceFeature.fields.data.offset;
  const known = FEATURES.get(flags & vfio.VFIO_DEVICE_FEATURE_MASK);
  if (!moves || known === undefined || view.byteLength < start + known.size) return {};
  return { data: known.decode(view, start) };
}

/** The chain behind VFIO_IOMMU_GET_INFO. Each step must lead forward, so that a broken chain ends. */
function capabilities(view: DataView, values: Readonly<Values>): Values {
  if ((Number(values['flags']) & vfio.VfioIommuInfoFlag.CAPS) === 0) return {};
  const header = vfio.VfioInfoCapHeader;
  const found: Values[] = [];
  for (let at = Number(values['cap_offset']), end = vfio.VfioIommuType1Info.size; at >= end;) {
    if (at + header.size > view.byteLength) break;
    found.push(capability(view, at));
    end = at + header.size;
    at = header.fields.next.get(view, at);
  }
  return { capabilities: found };
}

function capability(view: DataView, at: number): Values {
  const id = vfio.VfioInfoCapHeader.fields.id.get(view, at);
  const fits = (known: { readonly size: number }): boolean => at + known.size <= view.byteLength;
  if (id === rfc.VFIO_IOMMU_TYPE1_INFO_CAP_NESTING && fits(rfc.VfioIommuType1InfoCapNesting)) {
    return rfc.VfioIommuType1InfoCapNesting.decode(view, at);
  }
  if (id === vfio.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL && fits(vfio.VfioIommuType1InfoDmaAvail)) {
    return vfio.VfioIommuType1InfoDmaAvail.decode(view, at);
  }
  if (id === vfio.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE && fits(vfio.VfioIommuType1InfoCapIovaRange)) {
    return { ...vfio.VfioIommuType1InfoCapIovaRange.decode(view, at), iova_ranges: iovaRanges(view, at) };
  }
  return { header: vfio.VfioInfoCapHeader.decode(view, at) };
}

function iovaRanges(view: DataView, at: number): Values[] {
  const { iova_ranges, nr_iovas } = vfio.VfioIommuType1InfoCapIovaRange.fields;
  const room = Math.floor((view.byteLength - iova_ranges.start(0, at)) / iova_ranges.stride);
  return Array.from({ length: Math.min(nr_iovas.get(view, at), room) }, (_, index) =>
    vfio.VfioIovaRange.decode(view, iova_ranges.start(index, at)),
  );
}
