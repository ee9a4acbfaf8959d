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
    const first = this.#firstEndingAfter(iovaFrame);
    const touched: Mapping[] = [];
    for (let at = first; at < this.#mappings.length && this.#mappings[at]!.iovaFrame < end; at++) {
      const mapping = this.#mappings[at]!;
      const cut = mapping.iovaFrame < iovaFrame || mapping.iovaFrame + mapping.frames.length > end;
      if (cut && version === 2) return -Errno.EINVAL;
      if (mapping.iovaFrame >= iovaFrame) touched.push(mapping);
    }
    let unmapped = 0;
    for (const mapping of touched) {
      const error = this.#remove(mapping);
      if (error !== 0) return error;
      unmapped += mapping.frames.length;
    }
    return unmapped;
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

  #remove(mapping: Mapping): number {
    const error = this.#domain.unmap(mapping.iovaFrame, mapping.frames.length);
    if (error !== 0) return error;
    this.#unpin(mapping.frames);
    this.#mappings.splice(this.#mappings.indexOf(mapping), 1);
    return 0;
  }

  #firstEndingAfter(frame: number): number {
    const index = this.#mappings.findIndex(mapping => mapping.iovaFrame + mapping.frames.length > frame);
    return index < 0 ? this.#mappings.length : index;
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
