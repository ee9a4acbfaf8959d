/** What the structures of linux/iommufd.h point to, for the ledger: the payloads that a kernel takes from its caller's memory. */
import type { PlainValue } from './format.js';
import {
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IommuHwptAlloc,
  IommuHwptAmdGuest,
  IommuHwptArmSmmuv3,
  IommuHwptDataType,
  IommuHwptInvalidate,
  IommuHwptVtdS1,
  IommuHwptVtdS1Invalidate,
  IommuInvalidateDataType,
} from './iommufd-hwpt.js';
import { IommuViommuArmSmmuv3Invalidate } from './iommufd-viommu.js';
import { type StructType, viewOf } from './struct.js';

/** `length` bytes of the caller's memory; undefined if it has none there. */
export type ReadPayload = (address: number, length: number) => Uint8Array | undefined;

const TABLES = new Map<number, Pick<StructType, 'size' | 'decode'>>([
  [IommuHwptDataType.VTD_S1, IommuHwptVtdS1],
  [IommuHwptDataType.ARM_SMMUV3, IommuHwptArmSmmuv3],
  [IommuHwptDataType.AMD_GUEST, IommuHwptAmdGuest],
]);
const INVALIDATIONS = new Map<number, Pick<StructType, 'size' | 'decode'>>([
  [IommuInvalidateDataType.VTD_S1, IommuHwptVtdS1Invalidate],
  [IommuInvalidateDataType.ARM_SMMUV3, IommuViommuArmSmmuv3Invalidate],
]);

/** What `argument` of ioctl `request` points to; undefined if that is nothing, not there, or not known. */
export function decodePayload(request: number, argument: Uint8Array, read: ReadPayload): PlainValue | undefined {
  if (request === IOMMU_HWPT_ALLOC && argument.length >= IommuHwptAlloc.size) {
    const { data_type, data_len, data_uptr } = IommuHwptAlloc.fields;
    const view = viewOf(argument);
    const type = TABLES.get(data_type.get(view));
    return type && decodeAll(type, type.size, Math.min(1, data_len.get(view)), data_uptr.number(view), read)?.[0];
  }
  if (request === IOMMU_HWPT_INVALIDATE && argument.length >= IommuHwptInvalidate.size) {
    const { data_type, entry_len, entry_num, data_uptr } = IommuHwptInvalidate.fields;
    const view = viewOf(argument);
    const type = INVALIDATIONS.get(data_type.get(view));
    return type && decodeAll(type, entry_len.get(view), entry_num.get(view), data_uptr.number(view), read);
  }
  return undefined;
}

function decodeAll(
  type: Pick<StructType, 'size' | 'decode'>,
  stride: number,
  count: number,
  address: number,
  read: ReadPayload,
): PlainValue[] | undefined {
  const bytes = count === 0 || stride < type.size ? undefined : read(address, stride * count);
  if (bytes === undefined) return undefined;
  return Array.from({ length: count }, (_, index) => type.decode(viewOf(bytes), index * stride));
}
