import { Errno } from '@remora/core';
import type { FailureInjector } from '../options.js';
import type { Frames } from './frames.js';

/** Host pages for the kernel's own structures: page tables, queues. They come from the same memory as everybody's. */
export class KernelPages {
  readonly #frames: Frames;
  readonly #fails: FailureInjector;
  /** Sizes of the runs that are out, by first frame. */
  readonly #out = new Map<number, number>();

  constructor(frames: Frames, fails: FailureInjector = () => 0) {
    this.#frames = frames;
    this.#fails = fails;
  }

  /** Pages that are out. */
  get inUse(): number {
    return [...this.#out.values()].reduce((sum, pages) => sum + pages, 0);
  }

  /** First frame of `pages` zeroed neighbours, or -ENOMEM. */
  allocate(pages: number): number {
    const failed = this.#fails('kernel pages');
    if (failed !== 0) return failed;
    const first = this.#frames.takeRun(pages);
    if (first === undefined) return -Errno.ENOMEM;
    this.#out.set(first, pages);
    return first;
  }

  /** @throws Error unless exactly this run is out. */
  free(first: number, pages: number): void {
    if (this.#out.get(first) !== pages) throw new Error(`${pages} kernel pages at frame ${first} are not out`);
    this.#out.delete(first);
    this.#frames.dropRun(first, pages);
  }
}
