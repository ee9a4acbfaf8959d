/** What a host says it maps: which IOVAs, and how many mappings [VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, _INFO_DMA_AVAIL]. */
import { Errno } from '@remora/core';
import type { IommuInfo } from './iommu-info.js';

const PAGE = 4096;

export class DmaLimits {
  readonly #info: IommuInfo;
  /** Mappings that may still be made. */
  #left: number;

  constructor(info: IommuInfo) {
    this.#info = info;
    this.#left = info.dmaAvailable ?? Infinity;
  }

  /** Why the host would not map these pages: 0, -EINVAL outside its IOVAs, -ENOSPC if there are as many mappings as it takes. */
  refusal(iovaFrame: number, pages: number): number {
    if (this.#left <= 0) return -Errno.ENOSPC;
    const { iovaRanges } = this.#info;
    if (iovaRanges === undefined) return 0;
    const inside = iovaRanges.some(
      ({ startFrame, endFrame }) => startFrame <= iovaFrame && iovaFrame + pages <= endFrame,
    );
    return inside ? 0 : -Errno.EINVAL;
  }

  /** Mappings were made, or are gone (negative). */
  used(mappings: number): void {
    this.#left -= mappings;
  }

  /** For messages: the limit behind a refusal of these pages; undefined if there is none. */
  explain(iovaFrame: number, pages: number): string | undefined {
    const refusal = this.refusal(iovaFrame, pages);
    if (refusal === -Errno.ENOSPC) return `the host takes no more than ${this.#info.dmaAvailable} mappings`;
    if (refusal === 0) return undefined;
    const ranges = this.#info.iovaRanges!.map(
      ({ startFrame, endFrame }) => `0x${(startFrame * PAGE).toString(16)} to 0x${(endFrame * PAGE - 1).toString(16)}`,
    );
    return `the host maps IOVAs ${ranges.join(' and ')}`;
  }
}
