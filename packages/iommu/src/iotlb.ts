/**
 * The IOTLB: translations cached under an address-space id, in a set-associative table on one Int32Array.
 *
 * Four ways of 16 bytes make a set of one cache line. An entry carries the *tag* that its address space had when it was inserted.
 * Flushing an address space, a domain or everything only outdates tags, so it takes constant time whatever is cached; a tag is
 * given out once, and when all have been used the table is emptied and they start again. Addresses are (hi, lo) pairs.
 *
 * Removing more than asked is always legal for an IOTLB, and this one does so where exactness would cost the guest's choice of
 * work: large page ranges flush their address space.
 */
import { AddressSpaces } from './iotlb-spaces.js';
import { PageSizes } from './iotlb-sizes.js';

/** One cached translation, for inspection. */
export interface IotlbEntry {
  readonly domain: number;
  /** -1 for none. */
  readonly pasid: number;
  readonly kind: number;
  /** Input page. */
  readonly hi: number;
  readonly lo: number;
  readonly shift: number;
  readonly outHi: number;
  readonly outLo: number;
  readonly access: number;
}

/** There are as many sets as entries are wanted: at a load of one in four, fewer than 1 % of random pages find their set full. */
const WAYS = 4;
const MIN_ENTRIES = 16;
const MAX_ENTRIES = 2 ** 20;
const MIN_TAGS = 2 ** 16;
const MAX_TAGS = 2 ** 20;
/** Sets that one page-selective invalidation looks at before it flushes the address space instead. */
const MAX_PROBES = 1024;
/** Outputs have at most 52 bits. */
const OUT_HI_MASK = 0xfffff;

// Words of an entry. A key is compared as words PAGE_LO, PAGE_HI and the top 12 bits of OUT_HI; tag 0 marks an empty way.
/** Bits 43:12 of the input page. */
const PAGE_LO = 0;
/** Bits 63:44 of the input page, then the tag's low 12 bits. */
const PAGE_HI = 1;
/** Bits 31:12 of the output page, 4 unused bits, then the access bits. */
const OUT_LO = 2;
/** The tag's high 8 bits, the 4-bit code of the page size, then bits 51:32 of the output page. */
const OUT_HI = 3;

export class Iotlb {
  /** How many translations fit with few conflicts: a power of two. */
  readonly capacity: number;
  readonly #words: Int32Array;
  /** The set of a hash is its top bits. */
  readonly #setShift: number;
  readonly #spaces: AddressSpaces;
  readonly #sizes = new PageSizes();

  /** `entries` is rounded up to a power of two, at least 16. @throws RangeError unless it is an integer in [1, 2^20]. */
  constructor(entries: number) {
    if (!Number.isInteger(entries) || entries < 1 || entries > MAX_ENTRIES) {
      throw new RangeError(`an IOTLB has 1 to ${MAX_ENTRIES} entries, not ${entries}`);
    }
    const bits = 32 - Math.clz32(Math.max(entries, MIN_ENTRIES) - 1);
    this.capacity = 2 ** bits;
    this.#words = new Int32Array(this.capacity * WAYS * 4);
    this.#setShift = 32 - bits;
    // As many tags as the table is large, so that emptying it at the wrap stays a small share of the work.
    this.#spaces = new AddressSpaces(Math.min(MAX_TAGS, Math.max(MIN_TAGS, this.capacity * 4)));
  }

  /**
   * A small integer that stands for (domain, pasid, kind); the same for the same three. Not hot: callers keep it. `pasid` is -1
   * for none, `kind` 0 .. 3 is the vendor's. After 2^17 different ones the table is emptied and the earlier integers turn stale:
   * `lookup` misses, `insert` does nothing, and whoever kept one asks again (see `isCurrent`).
   * @throws RangeError unless domain is in [0, 2^30), pasid in [-1, 2^20) and kind in [0, 3].
   */
  asid(domain: number, pasid: number, kind: number): number {
    if (this.#spaces.full) {
      this.#wipe();
      this.#spaces.recycle();
    }
    return this.#spaces.intern(domain, pasid, kind);
  }

  /** Whether `asid` is still what asid() would return for its address space. */
  isCurrent(asid: number): boolean {
    return this.#spaces.isCurrent(asid);
  }

  /** The slot of the entry of `asid` that covers (hi, lo), or -1. A slot is good until the next insert or invalidation. */
  lookup(asid: number, hi: number, lo: number): number {
    const tag = this.#spaces.tagOf(asid);
    if (tag === 0) return -1;
    const sizes = this.#sizes;
    for (let code = 0; code < sizes.count; code++) {
      const pageHi = hi & sizes.maskHi[code]!;
      const slot = this.#find(tag, code, (pageHi << 20) | ((lo & sizes.maskLo[code]!) >>> 12), pageHi & ~0xfff);
      if (slot >= 0) return slot;
    }
    return -1;
  }

  /** High word of the output page's address, unsigned. */
  hi(slot: number): number {
    return this.#words[slot * 4 + OUT_HI]! & OUT_HI_MASK;
  }

  /** Low word of the output page's address, unsigned and aligned to the page. */
  lo(slot: number): number {
    return (this.#words[slot * 4 + OUT_LO]! & ~0xfff) >>> 0;
  }

  /** log2 of the page size in bytes. */
  shift(slot: number): number {
    return this.#sizes.shift[(this.#words[slot * 4 + OUT_HI]! >>> 20) & 15]!;
  }

  /** The 8 bits that insert() was given. */
  access(slot: number): number {
    return this.#words[slot * 4 + OUT_LO]! & 0xff;
  }

  /**
   * Caches a translation of the page of `1 << shift` bytes (12 .. 64) that holds (hi, lo); replaces an entry for the same page.
   * `access` is 8 bits of the caller's. An output at or above 2^52 is not cached.
   */
  insert(asid: number, hi: number, lo: number, shift: number, outHi: number, outLo: number, access: number): void {
    if ((outHi & ~OUT_HI_MASK) !== 0) return;
    let tag = this.#spaces.tagOf(asid);
    let code = this.#sizes.codeOf(shift);
    if (tag === 0 || code < 0) {
      if (!this.#spaces.isCurrent(asid)) return;
      if ((tag === 0 && this.#spaces.tagsUsedUp) || (code < 0 && this.#sizes.full)) {
        this.#wipe();
        tag = 0;
        code = -1;
      }
      if (tag === 0) tag = this.#spaces.newTag(asid);
      if (code < 0) code = this.#sizes.add(shift);
    }
    const maskHi = this.#sizes.maskHi[code]!;
    const maskLo = this.#sizes.maskLo[code]!;
    const pageHi = hi & maskHi;
    const pageLo = (pageHi << 20) | ((lo & maskLo) >>> 12);
    const at = this.#place(tag, code, pageLo, pageHi & ~0xfff) * 4;
    const words = this.#words;
    words[at + PAGE_LO] = pageLo;
    words[at + PAGE_HI] = (pageHi & ~0xfff) | (tag & 0xfff);
    words[at + OUT_LO] = (outLo & maskLo & ~0xfff) | (access & 0xff);
    words[at + OUT_HI] = ((((tag >>> 12) << 4) | code) << 20) | (outHi & maskHi & OUT_HI_MASK);
  }

  /**
   * Removes the entries of `asid` that overlap the `1 << shift` bytes (12 .. 64) around (hi, lo), at any page size. The low bits
   * of the address do not count. Large ranges flush the whole address space.
   */
  invalidatePages(asid: number, hi: number, lo: number, shift: number): void {
    const tag = this.#spaces.tagOf(asid);
    if (tag === 0) return;
    if (this.#sizes.probes(shift) > MAX_PROBES) this.#spaces.flush(asid);
    else this.#removeRange(tag, hi, lo, shift);
  }

  /** invalidatePages for every address space of this domain and kind; flushes all of them if that is too much work. */
  invalidateDomainPages(domain: number, kind: number, hi: number, lo: number, shift: number): void {
    const members = this.#spaces.members(domain, kind);
    if (members === undefined) return;
    if (members.length * this.#sizes.probes(shift) > MAX_PROBES) {
      this.#spaces.flushDomain(domain, kind);
      return;
    }
    for (let i = 0; i < members.length; i++) {
      const tag = this.#spaces.tagOf(members[i]!);
      if (tag !== 0) this.#removeRange(tag, hi, lo, shift);
    }
  }

  /** Removes all entries of `asid`. Constant time. */
  invalidateAsid(asid: number): void {
    this.#spaces.flush(asid);
  }

  /** Removes all entries of a domain: of one kind, or of all four (-1). Constant time. */
  invalidateDomain(domain: number, kind = -1): void {
    this.#spaces.flushDomain(domain, kind);
  }

  /** Removes everything. Constant time. */
  invalidateAll(): void {
    this.#spaces.flushAll();
    this.#sizes.clear();
  }

  /** How many translations are cached now. Reads the whole table: for inspection and tests. */
  get live(): number {
    return [...this.entries()].length;
  }

  /** What is cached now. For inspection and tests. */
  *entries(): Generator<IotlbEntry> {
    const words = this.#words;
    for (let slot = 0; slot * 4 < words.length; slot++) {
      const tag = this.#tagAt(slot * 4);
      if (!this.#spaces.isLive(tag) || !this.#isFirst(slot, tag)) continue;
      const hi = ((words[slot * 4 + PAGE_HI]! & ~0xfff) | (words[slot * 4 + PAGE_LO]! >>> 20)) >>> 0;
      const lo = (words[slot * 4 + PAGE_LO]! << 12) >>> 0;
      yield {
        ...this.#spaces.describe(tag),
        hi,
        lo,
        shift: this.shift(slot),
        outHi: this.hi(slot),
        outLo: this.lo(slot),
        access: this.access(slot),
      };
    }
  }

  /** The first way that `#find` looks at; the others follow round the set. Chosen by the hash, so hits spread over the ways. */
  #start(tag: number, pageLo: number, pageHi: number): number {
    let hash = Math.imul(pageLo ^ (pageHi >>> 12) ^ Math.imul(tag, 0x27d4eb2f), 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return (hash >>> this.#setShift) * WAYS + (hash & (WAYS - 1));
  }

  /** The slot of exactly this key, or -1. `pageHi` is bits 63:44 in place. */
  #find(tag: number, code: number, pageLo: number, pageHi: number): number {
    const words = this.#words;
    const start = this.#start(tag, pageLo, pageHi);
    const set = start & ~(WAYS - 1);
    const second = pageHi | (tag & 0xfff);
    const fourth = ((tag >>> 12) << 4) | code;
    for (let way = 0; way < WAYS; way++) {
      const slot = set | ((start + way) & (WAYS - 1));
      const at = slot * 4;
      if (words[at + PAGE_LO] === pageLo && words[at + PAGE_HI] === second && words[at + OUT_HI]! >>> 20 === fourth)
        return slot;
    }
    return -1;
  }

  /**
   * Where to put this key: the first way that holds it or nothing current, else over the first way. An older entry of the key may stay behind a
   * way that has become free: a lookup finds the newer one, and they go together. With a look at all ways, an insertion into a table of 64 MiB
   * took 200 ns, not 120.
   */
  #place(tag: number, code: number, pageLo: number, pageHi: number): number {
    const words = this.#words;
    const start = this.#start(tag, pageLo, pageHi);
    const set = (start & ~(WAYS - 1)) * 4;
    const second = pageHi | (tag & 0xfff);
    const fourth = ((tag >>> 12) << 4) | code;
    // Steps round the set, in words.
    let step = (start & (WAYS - 1)) * 4;
    let others = 0;
    for (let way = 0; way < WAYS; way++) {
      const at = set + step;
      const tagAndCode = words[at + OUT_HI]! >>> 20;
      const pageHiAndTag = words[at + PAGE_HI]!;
      if ((((tagAndCode ^ fourth) & ~15) | ((pageHiAndTag ^ second) & 0xfff)) !== 0) {
        if (this.#spaces.isOutdated(((tagAndCode >>> 4) << 12) | (pageHiAndTag & 0xfff))) return at >>> 2;
        others = 1;
      } else if (words[at + PAGE_LO] === pageLo && pageHiAndTag === second && tagAndCode === fourth) {
        return at >>> 2;
      }
      step = (step + 4) & 15;
    }
    if (others === 0) {
      // The address space has the set to itself; mostly no page looks as if it were in it twice.
      const pageOfStart = words[set + step + PAGE_LO];
      const twice =
        words[set + ((step + 4) & 15) + PAGE_LO] === pageOfStart ||
        words[set + ((step + 8) & 15) + PAGE_LO] === pageOfStart ||
        words[set + ((step + 12) & 15) + PAGE_LO] === pageOfStart;
      if (!twice) return start;
    }
    return this.#evict(start, tag);
  }

  /**
   * Where to put a key of `tag` into a set in which no way is outdated: over what was not used since its flush, else over the way `start`. That
   * one's own older entry must not come to light.
   */
  #evict(start: number, tag: number): number {
    const words = this.#words;
    const set = start & ~(WAYS - 1);
    const victim = start * 4;
    for (let way = 0; way < WAYS; way++) {
      const slot = set | ((start + way) & (WAYS - 1));
      const at = slot * 4;
      const other = this.#tagAt(at);
      if (other !== tag && !this.#spaces.isLive(other)) return slot;
      if (words[at + PAGE_LO] !== words[victim + PAGE_LO] || words[at + PAGE_HI] !== words[victim + PAGE_HI]) continue;
      if (way > 0 && words[at + OUT_HI]! >>> 20 === words[victim + OUT_HI]! >>> 20) this.#clear(at);
    }
    return start;
  }

  /** Whether a lookup of the entry in `slot` finds that entry, and not a newer one of the same key. */
  #isFirst(slot: number, tag: number): boolean {
    const at = slot * 4;
    return this.#find(tag, this.#codeAt(at), this.#words[at + PAGE_LO]!, this.#pageHiAt(at)) === slot;
  }

  #tagAt(at: number): number {
    return ((this.#words[at + OUT_HI]! >>> 24) << 12) | (this.#words[at + PAGE_HI]! & 0xfff);
  }

  #codeAt(at: number): number {
    return (this.#words[at + OUT_HI]! >>> 20) & 15;
  }

  #pageHiAt(at: number): number {
    return this.#words[at + PAGE_HI]! & ~0xfff;
  }

  #removeRange(tag: number, hi: number, lo: number, shift: number): void {
    const sizes = this.#sizes;
    for (let code = 0; code < sizes.count; code++) {
      const size = sizes.shift[code]!;
      const wider = shift > size ? shift : size;
      const baseHi = wider >= 64 ? 0 : wider >= 32 ? hi & (-1 << (wider - 32)) : hi;
      const baseLo = wider >= 32 ? 0 : lo & (-1 << wider);
      const pageLo = (baseHi << 20) | (baseLo >>> 12);
      const pageHi = baseHi & ~0xfff;
      const step = size - 12;
      const pages = 2 ** (wider - size);
      for (let page = 0; page < pages; page++) {
        // The page's number is below MAX_PROBES, so that its bits straddle at most the two words.
        const offsetLo = step < 32 ? page << step : 0;
        const offsetHi = step >= 32 ? page << (step - 32) : step === 0 ? 0 : page >>> (32 - step);
        this.#removePage(tag, code, pageLo | offsetLo, pageHi | (offsetHi << 12));
      }
    }
  }

  /** Removes all entries of exactly this key. */
  #removePage(tag: number, code: number, pageLo: number, pageHi: number): void {
    const words = this.#words;
    const set = this.#start(tag, pageLo, pageHi) & ~(WAYS - 1);
    const second = pageHi | (tag & 0xfff);
    const fourth = ((tag >>> 12) << 4) | code;
    for (let at = set * 4; at < (set + WAYS) * 4; at += 4) {
      if (words[at + PAGE_LO] !== pageLo || words[at + PAGE_HI] !== second || words[at + OUT_HI]! >>> 20 !== fourth)
        continue;
      this.#clear(at);
    }
  }

  #clear(at: number): void {
    const words = this.#words;
    words[at + PAGE_LO] = 0;
    words[at + PAGE_HI] = 0;
    words[at + OUT_LO] = 0;
    words[at + OUT_HI] = 0;
  }

  /** Empties the table for good: all tags and size codes may be given out again. */
  #wipe(): void {
    this.#words.fill(0);
    this.#spaces.restartTags();
    this.#sizes.clear();
  }
}
