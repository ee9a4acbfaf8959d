/**
 * The IOTLB as QEMU keeps it: translations belong to the requester, whatever domain it was in, and all are dropped when there are
 * too many. The domain only says which invalidations remove them.
 */
import type { Iotlb } from '@remora/iommu';

/** A guest that moves a requester through more domains than this, without a flush, loses what was cached for it. */
const MAX_SPACES = 64;

export class RequesterIotlb {
  readonly #iotlb: Iotlb;
  readonly #limit: number;
  /** At least as many translations are cached as there are; counted again at the limit. */
  #atMost = 0;
  /** The address-space ids under which a requester's translations were cached since the last flush of everything. */
  readonly #spaces = new Map<number, Set<number>>();

  constructor(iotlb: Iotlb, limit: number) {
    this.#iotlb = iotlb;
    this.#limit = limit;
  }

  /** The slot of the requester's translation that covers (hi, lo), or -1. */
  lookup(requesterId: number, hi: number, lo: number): number {
    for (const asid of this.#spaces.get(requesterId) ?? []) {
      const slot = this.#iotlb.lookup(asid, hi, lo);
      if (slot >= 0) return slot;
    }
    return -1;
  }

  insert(
    requesterId: number,
    domain: number,
    kind: number,
    hi: number,
    lo: number,
    shift: number,
    outHi: number,
    outLo: number,
    access: number,
  ): void {
    const iotlb = this.#iotlb;
    if (this.#atMost >= this.#limit) this.#atMost = iotlb.live;
    if (this.#atMost >= this.#limit) {
      iotlb.invalidateAll();
      this.#spaces.clear();
      this.#atMost = 0;
    }
    const spaces = this.#spaces.get(requesterId) ?? new Set<number>();
    const asid = iotlb.asid(domain, requesterId, kind);
    if (spaces.size >= MAX_SPACES && !spaces.has(asid)) {
      for (const other of spaces) iotlb.invalidateAsid(other);
      spaces.clear();
    }
    for (const other of spaces) if (other !== asid) iotlb.invalidatePages(other, hi, lo, shift);
    this.#spaces.set(requesterId, spaces.add(asid));
    iotlb.insert(asid, hi, lo, shift, outHi, outLo, access);
    this.#atMost++;
  }
}
