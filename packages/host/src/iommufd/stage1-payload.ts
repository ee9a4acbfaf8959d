/** A first stage and its flushes as the payloads of linux/iommufd.h: iommu_hwpt_vtd_s1 and iommu_hwpt_vtd_s1_invalidate. */
import type { Stage1Config, Stage1Flush } from '@remora/iommu';
import { IommuHwptVtdS1, IommuHwptVtdS1Invalidate, IommuVtdInvFlag, IommuVtdS1Flag, viewOf } from '@remora/uapi';

const PAGE_SHIFT = 12;
const ALL_PAGES = 0xffff_ffff;

/**
 * PCD, PWT, EMTE, EMT, CD and PAT, which RFC v3.1 passed on, have no place in it: the host's own memory types hold. WPE has, but
 * guests of that time could not ask for it.
 */
export function stage1Payload(config: Stage1Config): Uint8Array {
  const { sre, eafe } = config.attributes;
  const bytes = IommuHwptVtdS1.encode({ addr_width: config.addressWidth });
  const { flags, pgtbl_addr } = IommuHwptVtdS1.fields;
  flags.set(viewOf(bytes), 0, (sre === 0 ? 0 : IommuVtdS1Flag.SRE) | (eafe === 0 ? 0 : IommuVtdS1Flag.EAFE));
  pgtbl_addr.set(viewOf(bytes), config.rootHi, config.rootLo);
  return bytes;
}

export const INVALIDATION_BYTES = IommuHwptVtdS1Invalidate.size;

/** An array of invalidations that is filled again and again: nothing is allocated once each length was there. */
export class InvalidationArray {
  /** How many fit. */
  readonly capacity: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #prefixes: (Uint8Array | undefined)[] = [];

  constructor(payloadBytes: number) {
    this.capacity = Math.floor(payloadBytes / INVALIDATION_BYTES);
    this.#bytes = new Uint8Array(this.capacity * INVALIDATION_BYTES);
    this.#view = viewOf(this.#bytes);
  }

  /** Stores `flush` as entry `index`. A whole PASID is all pages from 0. */
  set(index: number, flush: Stage1Flush): void {
    const { addr, npages, flags } = IommuHwptVtdS1Invalidate.fields;
    const at = index * INVALIDATION_BYTES;
    const view = this.#view;
    if (flush.granularity === 'pasid') {
      addr.set(view, 0, 0, at);
      npages.set(view, ALL_PAGES, ALL_PAGES, at);
      flags.set(view, 0, at);
      return;
    }
    addr.set(view, flush.hi, flush.lo, at);
    npages.setWide(view, flush.granules * 2 ** (flush.granuleShift - PAGE_SHIFT), at);
    flags.set(view, flush.leaf ? IommuVtdInvFlag.LEAF : 0, at);
  }

  /** The first `count` entries. */
  first(count: number): Uint8Array {
    return (this.#prefixes[count] ??= this.#bytes.subarray(0, count * INVALIDATION_BYTES));
  }
}
