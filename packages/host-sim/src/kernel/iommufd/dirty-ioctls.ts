/** IOMMU_HWPT_SET_DIRTY_TRACKING and IOMMU_HWPT_GET_DIRTY_BITMAP: which pages a device wrote, one bit each in the caller's memory. */
import { Errno, PAGE_BYTES } from '@remora/core';
import {
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  IommuDirtyBitmapFlag,
  IommuDirtyTrackingFlag,
  IommuHwptGetDirtyBitmap,
  IommuHwptSetDirtyTracking,
} from '@remora/uapi';
import type { ProcessMemory } from '../../memory/process-memory.js';
import { HwptPaging } from './hwpt.js';
import { iommufdIoctl } from './ioctls.js';

const END = 2n ** 64n;
const PAGE = BigInt(PAGE_BYTES);
/** Bits are set in so many bytes at a time. */
const PIECE = 4096;

const setTracking = iommufdIoctl(
  'IOMMU_HWPT_SET_DIRTY_TRACKING',
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  IommuHwptSetDirtyTracking,
  (context, view) => {
    const { flags, hwpt_id } = IommuHwptSetDirtyTracking.fields;
    const flag = flags.get(view);
    if ((flag & ~IommuDirtyTrackingFlag.ENABLE) !== 0 || IommuHwptSetDirtyTracking.hasPadding(view)) {
      return -Errno.EOPNOTSUPP;
    }
    const hwpt = context.objects.get(hwpt_id.get(view), HwptPaging);
    if (typeof hwpt === 'number') return hwpt;
    if (!hwpt.tracksDirty) return -Errno.EOPNOTSUPP;
    const on = flag !== 0;
    // What was written before does not count.
    const cleared = on ? hwpt.ioas.forShown((frame, pages) => hwpt.domain.readDirty(frame, pages, true, undefined)) : 0;
    const result = cleared === 0 ? hwpt.domain.setDirtyTracking(on) : cleared;
    context.kernel.note('dirty-tracking', { id: hwpt.id, on, result });
    return result;
  },
);

/** What lies behind the first gap is not looked at, and what was written before tracking went off is told of still: a real 7.3.4 does both. */
const getBitmap = iommufdIoctl(
  'IOMMU_HWPT_GET_DIRTY_BITMAP',
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IommuHwptGetDirtyBitmap,
  (context, view) => {
    const { fields } = IommuHwptGetDirtyBitmap;
    const flags = fields.flags.get(view);
    const noClear = (flags & IommuDirtyBitmapFlag.NO_CLEAR) !== 0;
    if ((flags & ~IommuDirtyBitmapFlag.NO_CLEAR) !== 0 || IommuHwptGetDirtyBitmap.hasPadding(view)) {
      return -Errno.EOPNOTSUPP;
    }
    const hwpt = context.objects.get(fields.hwpt_id.get(view), HwptPaging);
    if (typeof hwpt === 'number') return hwpt;
    if (!hwpt.tracksDirty) return -Errno.EOPNOTSUPP;
    const iova = fields.iova.big(view);
    const length = fields.length.big(view);
    const pageSize = fields.page_size.big(view);
    const refused = checkRange(iova, length, pageSize, hwpt.ioas.alignment);
    if (refused !== 0) return refused;
    const mapped = hwpt.ioas.mappedUntil(iova, iova + length) - iova;
    if (mapped === 0n) return 0;
    const shift = trailingZeroes(pageSize);
    const bitmap = new UserBitmap(context.process.memory, fields.data.number(view));
    const first = Number(iova / PAGE);
    return hwpt.domain.readDirty(first, Number(mapped / PAGE), !noClear, (frame, pages) => {
      const start = BigInt(frame - first) * PAGE;
      const last = start + BigInt(pages) * PAGE - 1n;
      bitmap.set(Number(start >> BigInt(shift)), Number(last >> BigInt(shift)));
    });
  },
);

/** -EINVAL for no bytes, and for a range that is not of whole pages, of the address space's or the caller's size; -EOVERFLOW beyond 2^64. */
function checkRange(iova: bigint, length: bigint, pageSize: bigint, alignment: bigint): number {
  if (length === 0n) return -Errno.EINVAL;
  const end = iova + length;
  if (end > END) return -Errno.EOVERFLOW;
  const finest = alignment > PAGE ? alignment : PAGE;
  if ((iova | end) % finest !== 0n || pageSize === 0n) return -Errno.EINVAL;
  return ((iova | end) & (pageSize - 1n)) === 0n ? 0 : -Errno.EINVAL;
}

function trailingZeroes(value: bigint): number {
  let shift = 0;
  while ((value >> BigInt(shift)) % 2n === 0n) shift++;
  return shift;
}

/** Bits in a process' memory, from any byte address on. Bits that are set stay set; where there is no memory they are lost, as in Linux. */
class UserBitmap {
  readonly #memory: ProcessMemory;
  readonly #address: number;
  readonly #bytes = new Uint8Array(PIECE);

  constructor(memory: ProcessMemory, address: number) {
    this.#memory = memory;
    this.#address = address;
  }

  /** Sets the bits from `first` to `last`. */
  set(first: number, last: number): void {
    for (let bit = first; bit <= last;) {
      const start = Math.floor(bit / 8);
      const end = Math.min(start + PIECE, Math.floor(last / 8) + 1);
      const bytes = this.#bytes.subarray(0, end - start);
      const stop = Math.min(last + 1, end * 8);
      if (this.#memory.read(this.#address + start, bytes) === 0) {
        for (; bit < stop; bit++) bytes[Math.floor(bit / 8) - start]! |= 1 << (bit % 8);
        this.#memory.write(this.#address + start, bytes);
      }
      bit = stop;
    }
  }
}

export const dirtyIoctls = [setTracking, getBitmap];
