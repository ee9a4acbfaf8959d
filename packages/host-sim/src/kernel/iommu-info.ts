/** VFIO_IOMMU_GET_INFO: what the kernel tells of its IOMMU, with a chain of capabilities [A07]. */
import type { Wide } from '@remora/bits';
import { PAGE_BYTES } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_NESTING,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VfioInfoCapHeader,
  VfioIommuInfoFlag,
  VfioIommuPasidReqs,
  VfioIommuType1Info,
  VfioIommuType1InfoCapIovaRange,
  VfioIommuType1InfoCapNesting,
  VfioIommuType1InfoDmaAvail,
  VfioIovaRange,
  viewOf,
} from '@remora/uapi';
import { iovaRanges } from './iova-ranges.js';
import type { Kernel } from './kernel.js';
import { userStruct } from './user.js';

/** A structure of before there were capabilities ends after the page sizes; it is still taken. */
const OLDEST_BYTES = 16;
const CAP_VERSION = 1;
const PAGE = BigInt(PAGE_BYTES);

/** What GET_INFO tells. */
export interface InfoChain {
  /** Bit n for 2^n bytes. */
  readonly pageSizes: Wide;
  readonly capabilities: readonly Uint8Array[];
  /** argsz says what all of it takes, also to a caller that had room for it. */
  readonly alwaysSized?: boolean;
}

/** `available`: how many mappings the container may still make. */
export function writeIommuInfo(kernel: Kernel, nested: boolean, available: number, argument: IoctlArgument): number {
  return writeInfoChain(argument, () => {
    const ranges = iovaRanges(kernel).map(({ startFrame, endFrame }) => ({
      start: BigInt(startFrame) * PAGE,
      end: BigInt(endFrame) * PAGE - 1n,
    }));
    const capabilities = [dmaAvailable(available), iovaRangeList(ranges)];
    if (nested && kernel.knobs.nestingCapability) capabilities.push(nesting(kernel));
    return { pageSizes: kernel.iommu!.driver.pageSizes, capabilities };
  });
}

/** Writes what `describe` says into the caller's structure, as far as there is room; a negated errno of its own is passed on. */
export function writeInfoChain(argument: IoctlArgument, describe: () => InfoChain | number): number {
  const view = userStruct(argument, OLDEST_BYTES);
  if (typeof view === 'number') return view;
  const chain = describe();
  if (typeof chain === 'number') return chain;
  const { pageSizes, capabilities, alwaysSized = false } = chain;
  const { fields, size } = VfioIommuType1Info;
  const needed = capabilities.reduce((sum, capability) => sum + capability.length, size);
  const argsz = fields.argsz.get(view);
  fields.flags.set(view, VfioIommuInfoFlag.PGSIZES | VfioIommuInfoFlag.CAPS);
  fields.iova_pgsizes.setWide(view, pageSizes);
  const fits = argsz >= needed && view.byteLength >= needed;
  // The caller asks again with a buffer that is large enough.
  if (!fits || alwaysSized) fields.argsz.set(view, needed);
  if (!fits) {
    if (argsz >= size && view.byteLength >= size) fields.cap_offset.set(view, 0);
    return 0;
  }
  fields.cap_offset.set(view, size);
  let at = size;
  capabilities.forEach((capability, index) => {
    const next = index + 1 < capabilities.length ? at + capability.length : 0;
    new Uint8Array(view.buffer, view.byteOffset + at, capability.length).set(capability);
    VfioInfoCapHeader.fields.next.set(view, next, at);
    at += capability.length;
  });
  return 0;
}

function nesting(kernel: Kernel): Uint8Array {
  return VfioIommuType1InfoCapNesting.encode({
    header: { id: VFIO_IOMMU_TYPE1_INFO_CAP_NESTING, version: CAP_VERSION },
    nesting_capabilities: kernel.knobs.pasidRequests ? VfioIommuPasidReqs : 0,
    stage1_format: kernel.stage1Format,
  });
}

/** The capability that says how many mappings may still be made. */
export function dmaAvailable(avail: number): Uint8Array {
  // Capabilities start at multiples of 8 bytes.
  const bytes = new Uint8Array(Math.ceil(VfioIommuType1InfoDmaAvail.size / 8) * 8);
  VfioIommuType1InfoDmaAvail.write(viewOf(bytes), {
    header: { id: VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, version: CAP_VERSION },
    avail,
  });
  return bytes;
}

/** The capability that says what may be mapped; both ends of a range belong to it. */
export function iovaRangeList(ranges: readonly { readonly start: Wide; readonly end: Wide }[]): Uint8Array {
  const { size, fields } = VfioIommuType1InfoCapIovaRange;
  const bytes = new Uint8Array(size + ranges.length * VfioIovaRange.size);
  const view = viewOf(bytes);
  VfioIommuType1InfoCapIovaRange.write(view, {
    header: { id: VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, version: CAP_VERSION },
    nr_iovas: ranges.length,
  });
  for (const [index, range] of ranges.entries()) VfioIovaRange.write(view, range, fields.iova_ranges.start(index));
  return bytes;
}
