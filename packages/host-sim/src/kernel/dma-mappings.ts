/** What a container has mapped: IOVA to pinned host frames, in its IOMMU domain. */
import { Errno } from '@remora/core';
import type { HostIommuDomain } from '@remora/iommu';
import type { Frames } from '../memory/frames.js';
import type { ProcessMemory } from '../memory/process-memory.js';
import { type Interval, IntervalList } from './interval-list.js';
import type { IovaRange } from './iova-ranges.js';

/** By IOVA frame. */
interface Mapping extends Interval<number> {
  readonly address: number;
  readonly access: number;
  /** Pinned. */
  readonly frames: Int32Array;
}

/** A mapping as dumps show it. */
export interface DmaMappingState {
  readonly iovaFrame: number;
  readonly pages: number;
  readonly address: number;
  readonly access: number;
}

export class DmaMappings {
  readonly #domain: HostIommuDomain;
  readonly #frames: Frames;
  readonly #mappings = new IntervalList<number, Mapping>();
  readonly #ranges: readonly IovaRange[];
  readonly #limit: number;

  /** Mappings lie in `ranges`, and there are `limit` of them at most. */
  constructor(domain: HostIommuDomain, frames: Frames, ranges: readonly IovaRange[], limit: number) {
    this.#domain = domain;
    this.#frames = frames;
    this.#ranges = ranges;
    this.#limit = limit;
  }

  /** How many mappings may still be made. */
  get available(): number {
    return Math.max(0, this.#limit - this.#mappings.items.length);
  }

  /**
   * Pins the pages at `address` and maps them. -EEXIST if a part of the range is mapped, -ENOSPC if there are as many mappings as there
   * may be, -EINVAL if no range of IOVAs has room for it, -EFAULT if a part of the memory is not there; then, and if the IOMMU refuses,
   * nothing has changed.
   */
  map(memory: ProcessMemory, iovaFrame: number, pages: number, address: number, access: number): number {
    const end = iovaFrame + pages;
    if (this.#mappings.overlapping(iovaFrame, end) !== undefined) return -Errno.EEXIST;
    if (this.available === 0) return -Errno.ENOSPC;
    const inside = this.#ranges.some(({ startFrame, endFrame }) => startFrame <= iovaFrame && end <= endFrame);
    if (!inside) return -Errno.EINVAL;
    const frames = memory.framesAt(address, pages);
    if (frames === undefined) return -Errno.EFAULT;
    this.#frames.holdAll(frames);
    const error = this.#domain.mapFrames(iovaFrame, frames, access);
    if (error !== 0) {
      this.#frames.dropAll(frames);
      return error;
    }
    this.#mappings.insert({ start: iovaFrame, end, address, access, frames });
    return 0;
  }

  /**
   * Unmaps what is mapped in the range; returns how many pages. Version 2 refuses (-EINVAL) to cut a mapping in two; version 1
   * removes a mapping whole if the range covers its start, and nothing at all if the start of the first one lies before the range.
   */
  unmap(iovaFrame: number, pages: number, version: 1 | 2): number {
    const end = iovaFrame + pages;
    const mappings = this.#mappings.items;
    const first = this.#mappings.firstEndingAfter(iovaFrame);
    let past = first;
    while (past < mappings.length && mappings[past]!.start < end) past++;
    if (first === past) return 0;
    const startsBefore = mappings[first]!.start < iovaFrame;
    if (version === 2 && (startsBefore || mappings[past - 1]!.end > end)) return -Errno.EINVAL;
    return startsBefore ? 0 : this.#remove(first, past);
  }

  state(): DmaMappingState[] {
    return this.#mappings.items.map(({ start, address, access, frames }) => ({
      iovaFrame: start,
      pages: frames.length,
      address,
      access,
    }));
  }

  /** Unpins everything; the domain goes, too. */
  release(): void {
    for (const { frames } of this.#mappings.remove(0, Infinity)) this.#frames.dropAll(frames);
  }

  /** Removes mappings [first, past) and returns their pages; up to the one that the IOMMU refuses, if there is one. */
  #remove(first: number, past: number): number {
    let unmapped = 0;
    let at = first;
    let error = 0;
    for (; at < past; at++) {
      const { start, frames } = this.#mappings.items[at]!;
      error = this.#domain.unmap(start, frames.length);
      if (error !== 0) break;
      this.#frames.dropAll(frames);
      unmapped += frames.length;
    }
    this.#mappings.remove(first, at - first);
    return error === 0 ? unmapped : error;
  }
}
