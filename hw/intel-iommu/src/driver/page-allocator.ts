/** Where a driver's tables, queues and status words come from. */
import { Errno, MemTx, PAGE_BYTES, type MemoryPort } from '@remora/core';
import { frameHi, frameLo } from '@remora/bits';

export interface PageAllocator {
  /** First frame of `pages` contiguous, zeroed page frames; -ENOMEM if there are not so many. */
  allocate(pages: number): number;
  /** Takes back what one `allocate` gave. */
  free(frame: number, pages: number): void;
}

const ZEROES = new Uint8Array(PAGE_BYTES);

/**
 * Hands out the page frames of a range: fresh ones in ascending order, returned ones first, newest first, if the size is the same.
 */
export class FrameAllocator implements PageAllocator {
  readonly #memory: MemoryPort;
  readonly #end: number;
  #next: number;
  /** Returned runs by their number of pages. */
  readonly #returned = new Map<number, number[]>();
  /** Sizes of the runs that are out, by first frame. */
  readonly #out = new Map<number, number>();
  #inUse = 0;

  /** Manages frames `first` to `first + frames - 1` of `memory`. */
  constructor(memory: MemoryPort, first: number, frames: number) {
    this.#memory = memory;
    this.#next = first;
    this.#end = first + frames;
  }

  /** Pages that are out. */
  get inUse(): number {
    return this.#inUse;
  }

  allocate(pages: number): number {
    let frame = this.#returned.get(pages)?.pop();
    if (frame === undefined) {
      if (this.#next + pages > this.#end) return -Errno.ENOMEM;
      frame = this.#next;
      this.#next += pages;
    }
    for (let page = frame; page < frame + pages; page++) {
      if (this.#memory.write(frameHi(page), frameLo(page), ZEROES) !== MemTx.OK) {
        throw new Error(`page allocator: no memory at frame 0x${page.toString(16)}`);
      }
    }
    this.#out.set(frame, pages);
    this.#inUse += pages;
    return frame;
  }

  /** @throws Error unless exactly this run is out. */
  free(frame: number, pages: number): void {
    if (this.#out.get(frame) !== pages) {
      throw new Error(`page allocator: ${pages} pages at frame 0x${frame.toString(16)} are not out`);
    }
    this.#out.delete(frame);
    this.#inUse -= pages;
    const runs = this.#returned.get(pages);
    if (runs === undefined) this.#returned.set(pages, [frame]);
    else runs.push(frame);
  }
}
