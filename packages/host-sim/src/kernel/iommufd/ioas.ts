/** An I/O address space: which pages are at which IOVAs, for every page table that shows it. */
import { Access, Errno, PAGE_BYTES } from '@remora/core';
import type { HostPagingDomain } from '@remora/iommu';
import { IntervalList } from '../interval-list.js';
import type { IovaRange } from '../iova-ranges.js';
import type { Kernel } from '../kernel.js';
import type { IoPages, PagesView } from './io-pages.js';
import { type IovaBytes, IovaRoom } from './iova-room.js';
import { IommufdObject } from './objects.js';

/** A page table that shows the address space. */
export type IoasDomain = Pick<HostPagingDomain, 'map' | 'mapFrames' | 'unmap' | 'pageSizes' | 'addressWidth'>;

/** A stretch of pages: `length` bytes from byte `offset` of them on. */
export interface PageStretch {
  readonly pages: IoPages;
  readonly offset: bigint;
  readonly length: bigint;
}

interface Area extends IovaBytes {
  readonly pages: IoPages;
  /** Byte of `pages` that is at `start`. */
  readonly offset: bigint;
  readonly access: number;
  /** Those that need it to stay mapped. */
  locks: number;
}

export interface LockedPages {
  /** The host frames behind the range, in order. */
  readonly frames: Int32Array;
  /** Byte of the first frame where the range begins. */
  readonly offset: number;
  unlock(): void;
}

const END = 2n ** 64n;
const PAGE = BigInt(PAGE_BYTES);

export class Ioas extends IommufdObject implements PagesView {
  readonly kind = 'ioas';
  readonly room = new IovaRoom();
  readonly #kernel: Kernel;
  readonly #areas = new IntervalList<bigint, Area>();
  readonly #domains = new Set<IoasDomain>();
  #hugePages = true;
  #alignment = 1n;

  constructor(kernel: Kernel) {
    super();
    this.#kernel = kernel;
  }

  /** IOVAs, lengths and the places that are mapped are multiples of it. 1 while nothing translates. */
  get alignment(): bigint {
    return this.#alignment;
  }

  /** Sizes that every page table has, bit n for 2^n bytes; the alignment while there is none, or only the smallest may be used. */
  get pageSizes(): bigint {
    if (!this.hasDomains || !this.#hugePages) return this.#alignment;
    return BigInt([...this.#domains].reduce((sizes, domain) => sizes & domain.pageSizes, ~0) >>> 0);
  }

  get hugePages(): boolean {
    return this.#hugePages;
  }

  get hasDomains(): boolean {
    return this.#domains.size > 0;
  }

  /** The pages of every area. */
  pages(): IoPages[] {
    return this.#areas.items.map(area => area.pages);
  }

  /**
   * Shows everything in `domain` from now on. -EADDRINUSE if something is mapped, or promised, that it cannot translate, and whatever pinning
   * and mapping say; then nothing has changed.
   */
  addDomain(domain: IoasDomain): number {
    const finest = BigInt((domain.pageSizes & -domain.pageSizes) >>> 0);
    const alignment = finest > this.#alignment ? finest : this.#alignment;
    if (alignment > PAGE) return -Errno.EINVAL;
    if (!this.#alignedTo(alignment)) return -Errno.EADDRINUSE;
    const beyond = { start: 2n ** BigInt(domain.addressWidth), end: END };
    const error = this.room.reserve(domain, beyond.start < END ? [beyond] : [], this.#areas);
    if (error !== 0) return error;
    for (const [index, area] of this.#areas.items.entries()) {
      const refused = this.#show(area, domain);
      if (refused === 0) continue;
      for (const shown of this.#areas.items.slice(0, index)) this.#hide(shown, domain);
      this.room.unreserve(domain);
      return refused;
    }
    this.#domains.add(domain);
    this.#alignment = alignment;
    return 0;
  }

  removeDomain(domain: IoasDomain): void {
    if (!this.#domains.delete(domain)) return;
    for (const area of this.#areas.items) this.#hide(area, domain);
    this.room.unreserve(domain);
    this.#align();
  }

  /** Takes `ranges` from what may be mapped, for as long as `owner` is there; -EADDRINUSE if one is in use or promised. */
  reserve(owner: object, ranges: readonly IovaRange[]): number {
    const bytes = ranges.map(({ startFrame, endFrame }) => ({
      start: BigInt(startFrame) * PAGE,
      end: endFrame >= 2 ** 52 ? END : BigInt(endFrame) * PAGE,
    }));
    return this.room.reserve(owner, bytes, this.#areas);
  }

  unreserve(owner: object): void {
    this.room.unreserve(owner);
  }

  /** Whether small pages may be merged. -EINVAL once something is mapped somewhere; -EADDRINUSE if something is not page-aligned. */
  setHugePages(on: boolean): number {
    if (on === this.#hugePages) return 0;
    if (!on) {
      if (this.hasDomains && this.#areas.items.length > 0) return -Errno.EINVAL;
      if (!this.#alignedTo(PAGE)) return -Errno.EADDRINUSE;
    }
    this.#hugePages = on;
    this.#align();
    return 0;
  }

  /**
   * Maps the stretches one after the other, at `iova`, or where there is room if that is undefined. Returns the IOVA. -EINVAL for what is not aligned
   * or reserved, -EOVERFLOW, -EEXIST, -EPERM for writing to pages that may be read only, -ENOSPC; and if a page table refuses; then nothing has
   * changed. `address` is where the first stretch lies for whoever maps it.
   */
  map(stretches: readonly PageStretch[], address: bigint, iova: bigint | undefined, access: number): bigint | number {
    const length = stretches.reduce((sum, stretch) => sum + stretch.length, 0n);
    if (length === 0n || length % this.#alignment !== 0n) return -Errno.EINVAL;
    const start = iova ?? this.room.choose(length, address, this.#alignment, this.#areas);
    if (typeof start === 'number') return start;
    const refused = iova === undefined ? 0 : this.#mayMap(start, start + length);
    if (refused !== 0) return refused;
    const areas = this.#areasFor(stretches, start, access);
    if (typeof areas === 'number') return areas;
    for (const [index, area] of areas.entries()) {
      const error = this.#showEverywhere(area);
      if (error === 0) continue;
      for (const done of areas.slice(0, index)) this.#hideEverywhere(done);
      return error;
    }
    for (const area of areas) {
      area.pages.hold(this);
      this.#areas.insert(area);
    }
    return start;
  }

  /** What is mapped at [start, end), without a gap; -ENOENT. */
  stretches(start: bigint, end: bigint): PageStretch[] | number {
    const found: PageStretch[] = [];
    let at = start;
    for (let index = this.#areas.firstEndingAfter(start); at < end; index++) {
      const area = this.#areas.items[index];
      if (area === undefined || area.start > at) return -Errno.ENOENT;
      const stop = area.end < end ? area.end : end;
      found.push({ pages: area.pages, offset: area.offset + (at - area.start), length: stop - at });
      at = stop;
    }
    return found;
  }

  /**
   * Unmaps what is mapped in [start, end), one area after the other: `bytes` were. -ENOENT at one that reaches beyond the range, -EBUSY at one that
   * is locked, and whatever a page table says that does not let go: those before it are gone then (as in Linux), it and those after it are not.
   */
  unmap(start: bigint, end: bigint): { readonly bytes: bigint; readonly error: number } {
    const first = this.#areas.firstEndingAfter(start);
    let bytes = 0n;
    let error = 0;
    let past = first;
    for (; error === 0; past++) {
      const area = this.#areas.items[past];
      if (area === undefined || area.start >= end) break;
      error = area.locks > 0 ? -Errno.EBUSY : area.start < start || area.end > end ? -Errno.ENOENT : this.#take(area);
      if (error !== 0) break;
      bytes += area.end - area.start;
    }
    for (const gone of this.#areas.remove(first, past - first)) gone.pages.drop();
    return { bytes, error };
  }

  /** Cuts the area that has bytes on both sides of `iova` in two (VFIO type 1, version 1). Only where no page is larger than the smallest. */
  cut(iova: bigint): number {
    const at = this.#areas.firstEndingAfter(iova);
    const area = this.#areas.items[at];
    if (area === undefined || area.start >= iova) return 0;
    if (this.#hugePages || iova % this.#alignment !== 0n) return -Errno.EINVAL;
    if (area.locks > 0) return -Errno.EBUSY;
    if (area.pages.revoked) return -Errno.ENODEV;
    this.#areas.remove(at, 1);
    const { start, end, pages, offset, access } = area;
    pages.hold(this);
    for (let domain = 0; domain < this.#domains.size; domain++) pages.pin();
    this.#areas.insert({ start, end: iova, pages, offset, access, locks: 0 });
    this.#areas.insert({ start: iova, end, pages, offset: offset + (iova - start), access, locks: 0 });
    return 0;
  }

  /** Whether all of [start, start + length) is mapped. */
  covers(start: bigint, length: bigint): boolean {
    return typeof this.stretches(start, start + length) !== 'number';
  }

  /** Up to where everything from `start` on is mapped, at most to `end`: `start` itself if nothing is mapped there. */
  mappedUntil(start: bigint, end: bigint): bigint {
    let at = start;
    for (let index = this.#areas.firstEndingAfter(start); at < end; index++) {
      const area = this.#areas.items[index];
      if (area === undefined || area.start > at) return at;
      at = area.end;
    }
    return at < end ? at : end;
  }

  /** Calls `each` for all that page tables show, until it says a negated errno: that is the result. */
  forShown(each: (iovaFrame: number, pages: number) => number): number {
    for (const area of this.#areas.items) {
      if (area.pages.revoked) continue;
      const error = each(Number(area.start / PAGE), framesOf(area).length);
      if (error !== 0) return error;
    }
    return 0;
  }

  /** Pins what is mapped at [start, end) and keeps it mapped until it is unlocked. -ENOENT, and what pinning says. */
  lockPages(start: bigint, length: bigint): LockedPages | number {
    const end = start + length;
    const stretches = this.stretches(start, end);
    if (typeof stretches === 'number') return stretches;
    const pinned: IoPages[] = [];
    for (const { pages } of stretches) {
      const error = pages.pin();
      if (error === 0) {
        pinned.push(pages);
        continue;
      }
      for (const done of pinned) done.unpin();
      return error;
    }
    const areas = this.#areas.items.filter(area => area.start < end && area.end > start);
    for (const area of areas) area.locks++;
    return {
      frames: Int32Array.from(stretches.flatMap(stretch => [...framesOf(stretch)])),
      offset: Number((stretches[0]?.offset ?? 0n) % PAGE),
      unlock: () => {
        for (const area of areas) area.locks--;
        for (const pages of pinned) pages.unpin();
      },
    };
  }

  hide(pages: IoPages): void {
    for (const area of this.#areas.items) if (area.pages === pages) this.#hideEverywhere(area);
  }

  /** Where the byte at `iova` is, and how many of `length` bytes from there on follow each other. -ENOENT if it is not mapped, or not pinned. */
  contiguous(iova: bigint, length: bigint): { readonly physical: bigint; readonly length: bigint } | number {
    const area = this.#areas.overlapping(iova, iova + 1n);
    if (area?.pages.pinned !== true) return -Errno.ENOENT;
    const frames = framesOf(area);
    const byte = (area.offset % PAGE) + (iova - area.start);
    const first = Number(byte / PAGE);
    let past = first + 1;
    while (past < frames.length && frames[past] === frames[past - 1]! + 1) past++;
    const end = area.start + BigInt(past) * PAGE - (area.offset % PAGE);
    const run = (end < area.end ? end : area.end) - iova;
    return { physical: BigInt(frames[first]!) * PAGE + (byte % PAGE), length: run < length ? run : length };
  }

  release(): void {
    for (const area of this.#areas.remove(0, Infinity)) {
      this.#hideEverywhere(area);
      area.pages.drop();
    }
  }

  state(): unknown {
    const areas = this.#areas.items.map(({ start, end, access, locks }) => ({
      iova: start.toString(16),
      length: (end - start).toString(16),
      access,
      locks,
    }));
    return { areas, room: this.room.state(), domains: this.#domains.size, hugePages: this.#hugePages };
  }

  #mayMap(start: bigint, end: bigint): number {
    if (start % this.#alignment !== 0n) return -Errno.EINVAL;
    if (end > END) return -Errno.EOVERFLOW;
    if (this.room.isReserved({ start, end })) return -Errno.EINVAL;
    return this.#areas.overlapping(start, end) === undefined ? 0 : -Errno.EEXIST;
  }

  #areasFor(stretches: readonly PageStretch[], start: bigint, access: number): Area[] | number {
    const areas: Area[] = [];
    for (const { pages, offset, length } of stretches) {
      if ((access & Access.WRITE) !== 0 && !pages.writable) return -Errno.EPERM;
      if ((offset % PAGE) % this.#alignment !== 0n) return -Errno.EINVAL;
      areas.push({ start, end: start + length, pages, offset, access, locks: 0 });
      start += length;
    }
    return areas;
  }

  /** Out of every page table; if one does not let go, back into those that did. */
  #take(area: Area): number {
    if (area.pages.revoked) return 0;
    const gone: IoasDomain[] = [];
    for (const domain of this.#domains) {
      const error = domain.unmap(Number(area.start / PAGE), framesOf(area).length);
      if (error === 0) {
        gone.push(domain);
        continue;
      }
      for (const other of gone) this.#write(area, other);
      return error;
    }
    for (let domain = 0; domain < gone.length; domain++) area.pages.unpin();
    return 0;
  }

  #showEverywhere(area: Area): number {
    const shown: IoasDomain[] = [];
    for (const domain of this.#domains) {
      const error = this.#show(area, domain);
      if (error === 0) {
        shown.push(domain);
        continue;
      }
      for (const other of shown) this.#hide(area, other);
      return error;
    }
    return 0;
  }

  #hideEverywhere(area: Area): void {
    for (const domain of this.#domains) this.#hide(area, domain);
  }

  #show(area: Area, domain: IoasDomain): number {
    const error = area.pages.pin();
    if (error !== 0) return error;
    const refused = this.#write(area, domain);
    if (refused !== 0) area.pages.unpin();
    return refused;
  }

  #write(area: Area, domain: IoasDomain): number {
    const frames = framesOf(area);
    const first = Number(area.start / PAGE);
    if (this.#hugePages) return domain.mapFrames(first, frames, area.access);
    for (const [page, frame] of frames.entries()) {
      const error = domain.map(first + page, frame, 1, area.access);
      if (error === 0) continue;
      domain.unmap(first, page);
      return error;
    }
    return 0;
  }

  /** Nobody is left who could be told an errno: what a page table would not let go is in the ledger. */
  #hide(area: Area, domain: IoasDomain): void {
    if (area.pages.revoked) return;
    const iovaFrame = Number(area.start / PAGE);
    const result = domain.unmap(iovaFrame, framesOf(area).length);
    if (result < 0) this.#kernel.note('unmap', { ioas: this.id, iovaFrame, result });
    area.pages.unpin();
  }

  /** Whether everything that is mapped could be mapped in units of `alignment`. */
  #alignedTo(alignment: bigint): boolean {
    return this.#areas.items.every(
      ({ start, end, offset }) => ((start | end | (offset % PAGE)) & (alignment - 1n)) === 0n,
    );
  }

  #align(): void {
    this.#alignment = this.hasDomains || !this.#hugePages ? PAGE : 1n;
  }
}

function framesOf(area: Area | PageStretch): Int32Array {
  const length = 'length' in area ? area.length : area.end - area.start;
  const first = Number(area.offset / PAGE);
  return area.pages.frames.subarray(first, Number((area.offset + length + PAGE - 1n) / PAGE));
}
