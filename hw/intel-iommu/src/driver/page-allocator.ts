/** Where a driver's tables, queues and status words come from. */
import { Errno, MemTx, PAGE_BYTES, type MemoryPort, type StateReader, type StateWriter } from '@remora/core';
import { frameHi, frameLo } from '@remora/bits';

export interface PageAllocator {
  /** First frame of `pages` contiguous, zeroed page frames; -ENOMEM if there are not so many. */
  allocate(pages: number): number;
  /** Takes back what one `allocate` gave. */
  free(frame: number, pages: number): void;
}

const ZEROES = new Uint8Array(PAGE_BYTES);
const MAX_RUN_WORDS = 2 ** 24;

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

  save(into: StateWriter): void {
    into.integer('next', this.#next);
    into.words('out', Int32Array.from([...this.#out].flat()));
    into.words(
      'returned',
      Int32Array.from([...this.#returned].flatMap(([pages, runs]) => runs.flatMap(run => [run, pages]))),
    );
  }

  /** What `save` wrote of an allocator of the same range: the pages are as they were. */
  load(from: StateReader): void {
    this.#next = from.integer('next', { max: this.#end });
    this.#out.clear();
    this.#returned.clear();
    this.#inUse = 0;
    for (const [frame, pages] of pairs(from.anyWords('out', MAX_RUN_WORDS))) {
      this.#out.set(frame, pages);
      this.#inUse += pages;
    }
    for (const [frame, pages] of pairs(from.anyWords('returned', MAX_RUN_WORDS))) this.#keep(frame, pages);
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
    this.#keep(frame, pages);
  }

  #keep(frame: number, pages: number): void {
    const runs = this.#returned.get(pages);
    if (runs === undefined) this.#returned.set(pages, [frame]);
    else runs.push(frame);
  }
}

function pairs(words: Int32Array): [number, number][] {
  return Array.from({ length: Math.floor(words.length / 2) }, (_, index) => [words[2 * index]!, words[2 * index + 1]!]);
}
