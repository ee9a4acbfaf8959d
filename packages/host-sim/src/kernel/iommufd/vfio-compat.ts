/** VFIO's ioctls of a container, asked of an iommufd: what a program that knows only VFIO says to it (peers.md 3.6/20). */
import { Access, Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_DMA_CC_IOMMU,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  VfioDmaMapFlag,
  VfioDmaUnmapFlag,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
} from '@remora/uapi';
import { dmaAvailable, iovaRangeList, writeInfoChain } from '../iommu-info.js';
import { userInteger, userStruct } from '../user.js';
import type { IommufdContext } from './context.js';
import { userPages } from './io-pages.js';
import { mapSource } from './map-pages.js';
import { compatIoas } from './vfio-ioas.js';

const U64_MAX = 2n ** 64n - 1n;
/** There is no limit; programs that know one are told of one that they know. */
const MAPPINGS_AVAILABLE = 0xffff_ffff;

/** Answers a request that is none of iommufd's own; -ENOTTY if it is none of a container's either. */
export function vfioCompatIoctl(context: IommufdContext, request: number, argument: IoctlArgument): number {
  switch (request) {
    case VFIO_GET_API_VERSION:
      return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
      return checkExtension(context, userInteger(argument));
    case VFIO_SET_IOMMU:
      return setIommu(context, userInteger(argument));
    case VFIO_IOMMU_GET_INFO:
      return getInfo(context, argument);
    case VFIO_IOMMU_MAP_DMA:
      return mapDma(context, argument);
    case VFIO_IOMMU_UNMAP_DMA:
      return unmapDma(context, argument);
    default:
      return -Errno.ENOTTY;
  }
}

function checkExtension(context: IommufdContext, extension: number | undefined): number {
  switch (extension) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_UNMAP_ALL:
      return 1;
    case VFIO_DMA_CC_IOMMU: {
      const ioas = compatIoas(context);
      return typeof ioas === 'number' ? ioas : 1;
    }
    default:
      return 0;
  }
}

/** Version 1 may cut mappings in two, which is possible only where no page is larger than the smallest. */
function setIommu(context: IommufdContext, type: number | undefined): number {
  if (type !== VFIO_TYPE1_IOMMU && type !== VFIO_TYPE1v2_IOMMU) return -Errno.EINVAL;
  const ioas = compatIoas(context);
  if (typeof ioas === 'number') return ioas;
  return type === VFIO_TYPE1_IOMMU ? ioas.setHugePages(false) : 0;
}

function getInfo(context: IommufdContext, argument: IoctlArgument): number {
  const ioas = compatIoas(context);
  return writeInfoChain(argument, () => {
    if (typeof ioas === 'number') return ioas;
    const ranges = ioas.room.holes().map(({ start, end }) => ({ start, end: end - 1n }));
    return {
      pageSizes: ioas.pageSizes,
      capabilities: [dmaAvailable(MAPPINGS_AVAILABLE), iovaRangeList(ranges)],
      alwaysSized: true,
    };
  });
}

function mapDma(context: IommufdContext, argument: IoctlArgument): number {
  const view = userStruct(argument, VfioIommuType1DmaMap.size);
  if (typeof view === 'number') return view;
  const { fields } = VfioIommuType1DmaMap;
  const flags = fields.flags.get(view);
  const known = VfioDmaMapFlag.READ | VfioDmaMapFlag.WRITE;
  if ((flags & ~known) !== 0 || flags === 0) return -Errno.EINVAL;
  const ioas = compatIoas(context);
  if (typeof ioas === 'number') return ioas;
  const access = (flags & VfioDmaMapFlag.READ ? Access.READ : 0) | (flags & VfioDmaMapFlag.WRITE ? Access.WRITE : 0);
  const address = fields.vaddr.big(view);
  const result = mapSource(context, ioas, () => userPages(context.process, address), {
    address,
    length: fields.size.big(view),
    iova: fields.iova.big(view),
    access,
  });
  return typeof result === 'number' ? result : 0;
}

function unmapDma(context: IommufdContext, argument: IoctlArgument): number {
  const view = userStruct(argument, VfioIommuType1DmaUnmap.size);
  if (typeof view === 'number') return view;
  const { fields } = VfioIommuType1DmaUnmap;
  const flags = fields.flags.get(view);
  const iova = fields.iova.big(view);
  const size = fields.size.big(view);
  if ((flags & ~VfioDmaUnmapFlag.ALL) !== 0) return -Errno.EINVAL;
  const ioas = compatIoas(context);
  if (typeof ioas === 'number') return ioas;
  const all = flags === VfioDmaUnmapFlag.ALL;
  if (all ? iova !== 0n || size !== 0n : size === 0n) return -Errno.EINVAL;
  if (iova + size > U64_MAX + 1n) return -Errno.EOVERFLOW;
  if (!all && !ioas.hugePages) {
    const error = ioas.cut(iova) || ioas.cut(iova + size);
    if (error !== 0) return error;
  }
  const { bytes, error } = ioas.unmap(iova, all ? U64_MAX + 1n : iova + size);
  fields.size.setWide(view, bytes);
  return error;
}
