/** What a container has mapped: IOVA to pinned host frames, in its IOMMU domain. */
import { Errno } from '@remora/core';
import type { HostIommuDomain } from '@remora/iommu';
import type { Frames } from '../memory/frames.js';
import type { ProcessMemory } from '../memory/process-memory.js';
import type { IovaRange } from './iova-ranges.js';

interface Mapping {
  readonly iovaFrame: number;
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
  /** Ascending by IOVA; they do not overlap. */
  readonly #mappings: Mapping[] = [];
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
    return Math.max(0, this.#limit - this.#mappings.length);
  }

  /**
   * Pins the pages at `address` and maps them. -EEXIST if a part of the range is mapped, -ENOSPC if there are as many mappings as there
   * may be, -EINVAL if no range of IOVAs has room for it, -EFAULT if a part of the memory is not there; then, and if the IOMMU refuses,
   * nothing has changed.
   */
  map(memory: ProcessMemory, iovaFrame: number, pages: number, address: number, access: number): number {
    const at = this.#firstEndingAfter(iovaFrame);
    const next = this.#mappings[at];
    if (next !== undefined && next.iovaFrame < iovaFrame + pages) return -Errno.EEXIST;
    if (this.available === 0) return -Errno.ENOSPC;
    const inside = this.#ranges.some(
      ({ startFrame, endFrame }) => startFrame <= iovaFrame && iovaFrame + pages <= endFrame,
    );
    if (!inside) return -Errno.EINVAL;
    const frames = this.#pin(memory, address, pages);
    if (typeof frames === 'number') return frames;
    const error = this.#domain.mapFrames(iovaFrame, frames, access);
    if (error !== 0) {
      this.#unpin(frames);
      return error;
    }
    this.#mappings.splice(at, 0, { iovaFrame, address, access, frames });
    return 0;
  }

  /**
   * Unmaps what is mapped in the range; returns how many pages. Version 2 refuses (-EINVAL) to cut a mapping in two; version 1
   * removes a mapping whole if the range covers its start, and passes over one whose start lies before.
   */
  unmap(iovaFrame: number, pages: number, version: 1 | 2): number {
    const end = iovaFrame + pages;
    const mappings = this.#mappings;
    let first = this.#firstEndingAfter(iovaFrame);
    let past = first;
    while (past < mappings.length && mappings[past]!.iovaFrame < end) past++;
    if (first === past) return 0;
    const last = mappings[past - 1]!;
    const startsBefore = mappings[first]!.iovaFrame < iovaFrame;
    if (version === 2 && (startsBefore || last.iovaFrame + last.frames.length > end)) return -Errno.EINVAL;
    if (startsBefore) first++;
    return this.#remove(first, past);
  }

  state(): DmaMappingState[] {
    return this.#mappings.map(({ iovaFrame, address, access, frames }) => ({
      iovaFrame,
      pages: frames.length,
      address,
      access,
    }));
  }

  /** Unpins everything; the domain goes, too. */
  release(): void {
    for (const { frames } of this.#mappings.splice(0)) this.#unpin(frames);
  }

  /** Removes mappings [first, past) and returns their pages; up to the one that the IOMMU refuses, if there is one. */
  #remove(first: number, past: number): number {
    let unmapped = 0;
    let at = first;
    let error = 0;
    for (; at < past; at++) {
      const { iovaFrame, frames } = this.#mappings[at]!;
      error = this.#domain.unmap(iovaFrame, frames.length);
      if (error !== 0) break;
      this.#unpin(frames);
      unmapped += frames.length;
    }
    this.#mappings.splice(first, at - first);
    return error === 0 ? unmapped : error;
  }

  #firstEndingAfter(frame: number): number {
    let low = 0;
    let high = this.#mappings.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { iovaFrame, frames } = this.#mappings[middle]!;
      if (iovaFrame + frames.length > frame) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #pin(memory: ProcessMemory, address: number, pages: number): Int32Array | number {
    const frames = memory.framesAt(address, pages);
    if (frames === undefined) return -Errno.EFAULT;
    for (const frame of frames) this.#frames.hold(frame);
    return frames;
  }

  #unpin(frames: Int32Array): void {
    for (const frame of frames) this.#frames.drop(frame);
  }
}
