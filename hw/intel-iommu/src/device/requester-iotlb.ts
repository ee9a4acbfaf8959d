/**
 * The IOTLB as QEMU keeps it: a translation belongs to the requester, the PASID and the size of its page, and replaces the one
 * before; the domain only says which invalidations remove it. All are dropped when there are as many as fit.
 *
 * Everything here is exact. That costs little, for there are few: an invalidation looks at each of them.
 */
import type { IotlbEntry } from '@remora/iommu';
import { baseMaskHi, baseMaskLo } from './address.js';
import type { VtdTrace } from './trace-events.js';

// Words of an entry.
/** 0: free. Else log2 of the page size, then the access byte, then the kind. */
const META = 0;
const REQUESTER = 1;
const PASID = 2;
const DOMAIN = 3;
const PAGE_HI = 4;
const PAGE_LO = 5;
const OUT_HI = 6;
const OUT_LO = 7;
const WORDS = 8;

const SHIFT_MASK = 0xff;
const ACCESS_SHIFT = 8;
const KIND_SHIFT = 16;
/** Page sizes that can be there, in the order in which they are looked for. */
const SHIFTS = [12, 21, 30] as const;
const BUCKETS = 2048;
const BUCKET_SHIFT = 21;
const NONE = -1;

export class RequesterIotlb {
  readonly #limit: number;
  readonly #trace: VtdTrace | undefined;
  readonly #words: Int32Array;
  /** The first slot of each hash bucket. */
  readonly #heads = new Int32Array(BUCKETS).fill(NONE);
  /** The slot after this one: in its bucket, or among the free ones. */
  readonly #next: Int32Array;
  #free = NONE;
  #size = 0;

  /** At most `limit` translations are kept. */
  constructor(limit: number, trace?: VtdTrace) {
    this.#limit = limit;
    this.#trace = trace;
    this.#words = new Int32Array(limit * WORDS);
    this.#next = new Int32Array(limit);
    this.invalidateAll();
  }

  /** The slot of the translation that covers (hi, lo), smallest page first, or -1. A slot is good until the next change. */
  lookup(requesterId: number, pasid: number, hi: number, lo: number): number {
    for (let i = 0; i < SHIFTS.length; i++) {
      const shift = SHIFTS[i]!;
      const slot = this.#find(requesterId, pasid, shift, hi & baseMaskHi(shift), lo & baseMaskLo(shift));
      if (slot >= 0) return slot;
    }
    return NONE;
  }

  /** High word of the output page's address, unsigned. */
  hi(slot: number): number {
    return this.#words[slot * WORDS + OUT_HI]! >>> 0;
  }

  /** Low word of the output page's address, unsigned and aligned to the page. */
  lo(slot: number): number {
    return this.#words[slot * WORDS + OUT_LO]! >>> 0;
  }

  /** log2 of the page size in bytes. */
  shift(slot: number): number {
    return this.#words[slot * WORDS + META]! & SHIFT_MASK;
  }

  /** The access byte that insert() was given. */
  access(slot: number): number {
    return (this.#words[slot * WORDS + META]! >>> ACCESS_SHIFT) & 0xff;
  }

  /** Caches a translation of the page of `1 << shift` bytes (12, 21 or 30) that holds (hi, lo). `kind` is a TlbKind. */
  insert(
    requesterId: number,
    pasid: number,
    domain: number,
    kind: number,
    hi: number,
    lo: number,
    shift: number,
    outHi: number,
    outLo: number,
    access: number,
  ): void {
    if (this.#size >= this.#limit) this.#dropForRoom();
    const words = this.#words;
    const pageHi = hi & baseMaskHi(shift);
    const pageLo = lo & baseMaskLo(shift);
    let slot = this.#find(requesterId, pasid, shift, pageHi, pageLo);
    if (slot < 0) slot = this.#take(bucketOf(requesterId, pasid, shift, pageHi, pageLo));
    const at = slot * WORDS;
    words[at + META] = shift | (access << ACCESS_SHIFT) | (kind << KIND_SHIFT);
    words[at + REQUESTER] = requesterId;
    words[at + PASID] = pasid;
    words[at + DOMAIN] = domain;
    words[at + PAGE_HI] = pageHi;
    words[at + PAGE_LO] = pageLo;
    words[at + OUT_HI] = outHi & baseMaskHi(shift);
    words[at + OUT_LO] = outLo & baseMaskLo(shift);
  }

  invalidateAll(): void {
    this.#heads.fill(NONE);
    this.#words.fill(0);
    for (let slot = 0; slot < this.#limit; slot++) this.#next[slot] = slot + 1 < this.#limit ? slot + 1 : NONE;
    this.#free = 0;
    this.#size = 0;
  }

  invalidateDomain(domain: number): void {
    for (let slot = 0; slot < this.#limit; slot++) if (this.#isOf(slot, domain)) this.#remove(slot);
  }

  /** Those of `domain` and `kind` that overlap the `1 << shift` bytes (12 .. 64) around (hi, lo), and all of its other kinds. */
  invalidateDomainPages(domain: number, kind: number, hi: number, lo: number, shift: number): void {
    for (let slot = 0; slot < this.#limit; slot++) {
      if (this.#isOf(slot, domain) && (!this.#isKind(slot, kind) || this.#overlaps(slot, hi, lo, shift))) {
        this.#remove(slot);
      }
    }
  }

  /** Those of a PASID in a domain, of any kind. */
  invalidatePasid(domain: number, pasid: number): void {
    for (let slot = 0; slot < this.#limit; slot++) {
      if (this.#isOf(slot, domain) && this.#words[slot * WORDS + PASID] === pasid) this.#remove(slot);
    }
  }

  /** Those of a PASID in a domain, of one kind, that overlap the `1 << shift` bytes (12 .. 64) around (hi, lo). */
  invalidatePasidPages(domain: number, pasid: number, kind: number, hi: number, lo: number, shift: number): void {
    for (let slot = 0; slot < this.#limit; slot++) {
      if (!this.#isOf(slot, domain) || this.#words[slot * WORDS + PASID] !== pasid) continue;
      if (this.#isKind(slot, kind) && this.#overlaps(slot, hi, lo, shift)) this.#remove(slot);
    }
  }

  /** What is cached now. For inspection and tests. */
  *entries(): Generator<IotlbEntry & { readonly requesterId: number }> {
    const words = this.#words;
    for (let slot = 0; slot < this.#limit; slot++) {
      const at = slot * WORDS;
      if (words[at + META] === 0) continue;
      yield {
        requesterId: words[at + REQUESTER]!,
        domain: words[at + DOMAIN]!,
        pasid: words[at + PASID]!,
        kind: words[at + META]! >>> KIND_SHIFT,
        hi: words[at + PAGE_HI]! >>> 0,
        lo: words[at + PAGE_LO]! >>> 0,
        shift: this.shift(slot),
        outHi: this.hi(slot),
        outLo: this.lo(slot),
        access: this.access(slot),
      };
    }
  }

  #dropForRoom(): void {
    const reset = this.#trace?.vtd_iotlb_reset;
    if (reset?.on === true) reset.emit('full');
    this.invalidateAll();
  }

  #find(requesterId: number, pasid: number, shift: number, pageHi: number, pageLo: number): number {
    const words = this.#words;
    let slot = this.#heads[bucketOf(requesterId, pasid, shift, pageHi, pageLo)]!;
    while (slot >= 0) {
      const at = slot * WORDS;
      if (
        words[at + PAGE_LO] === pageLo &&
        words[at + PAGE_HI] === pageHi &&
        words[at + REQUESTER] === requesterId &&
        words[at + PASID] === pasid &&
        (words[at + META]! & SHIFT_MASK) === shift
      ) {
        return slot;
      }
      slot = this.#next[slot]!;
    }
    return NONE;
  }

  /** Moves a free slot into a bucket. */
  #take(bucket: number): number {
    const slot = this.#free;
    this.#free = this.#next[slot]!;
    this.#next[slot] = this.#heads[bucket]!;
    this.#heads[bucket] = slot;
    this.#size++;
    return slot;
  }

  #remove(slot: number): void {
    const words = this.#words;
    const next = this.#next;
    const at = slot * WORDS;
    const shift = words[at + META]! & SHIFT_MASK;
    const bucket = bucketOf(
      words[at + REQUESTER]!,
      words[at + PASID]!,
      shift,
      words[at + PAGE_HI]!,
      words[at + PAGE_LO]!,
    );
    let before = NONE;
    for (let each = this.#heads[bucket]!; each !== slot; each = next[each]!) before = each;
    if (before < 0) this.#heads[bucket] = next[slot]!;
    else next[before] = next[slot]!;
    words[at + META] = 0;
    next[slot] = this.#free;
    this.#free = slot;
    this.#size--;
  }

  #isOf(slot: number, domain: number): boolean {
    return this.#words[slot * WORDS + META] !== 0 && this.#words[slot * WORDS + DOMAIN] === domain;
  }

  #isKind(slot: number, kind: number): boolean {
    return this.#words[slot * WORDS + META]! >>> KIND_SHIFT === kind;
  }

  #overlaps(slot: number, hi: number, lo: number, shift: number): boolean {
    const at = slot * WORDS;
    const wider = Math.max(shift, this.shift(slot));
    if (wider >= 64) return true;
    const differentHi = (this.#words[at + PAGE_HI]! ^ hi) & baseMaskHi(wider);
    return (differentHi | ((this.#words[at + PAGE_LO]! ^ lo) & baseMaskLo(wider))) === 0;
  }
}

function bucketOf(requesterId: number, pasid: number, shift: number, pageHi: number, pageLo: number): number {
  const page = (pageLo >>> 12) ^ Math.imul(pageHi, 0x85ebca6b) ^ Math.imul(requesterId ^ (pasid << 8), 0x27d4eb2f);
  return Math.imul((page ^ (page >>> 15)) + shift, 0x9e3779b1) >>> BUCKET_SHIFT;
}
