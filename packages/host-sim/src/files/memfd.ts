/** memfd_create(2): a file that is nothing but memory, which processes and I/O address spaces can map. */
import { PAGE_BYTES } from '@remora/core';
import type { Frames } from '../memory/frames.js';
import type { HostFile } from './host-file.js';

export class MemFd implements HostFile {
  readonly kind = 'memfd';
  readonly #frames: Frames;
  readonly #table: Int32Array;
  #holders = 1;

  /** Takes over `table`, frames that are held once for it. */
  constructor(frames: Frames, table: Int32Array) {
    this.#frames = frames;
    this.#table = table;
  }

  /** The host frames of `pages` pages from page `first` on; undefined beyond the end. */
  framesAt(first: number, pages: number): Int32Array | undefined {
    return first + pages <= this.#table.length ? this.#table.slice(first, first + pages) : undefined;
  }

  /** Whoever maps the file keeps its memory when its last descriptor is closed. */
  hold(): void {
    this.#holders++;
  }

  drop(): void {
    if (--this.#holders === 0) this.#frames.dropAll(this.#table);
  }

  release(): void {
    this.drop();
  }

  state(): unknown {
    return { bytes: this.#table.length * PAGE_BYTES };
  }
}
