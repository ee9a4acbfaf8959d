/** A dma-buf of a device's memory, as vfio-pci exports it: whoever maps it must let go when the device takes it back. */
import { Errno } from '@remora/core';
import type { HostFile } from './host-file.js';

/** Somebody who mapped a dma-buf. */
export interface DmaBufImporter {
  /** The memory must not be reached any more when this returns. */
  revoked(): void;
}

export class DmaBuf implements HostFile {
  readonly kind = 'dma-buf';
  readonly #frames: Int32Array;
  readonly #importers = new Set<DmaBufImporter>();
  #there: boolean;

  /** Host frames that are not memory; `there`: whether the device answers at them now. */
  constructor(frames: Int32Array, there: boolean) {
    this.#frames = frames;
    this.#there = there;
  }

  get pages(): number {
    return this.#frames.length;
  }

  /** The host frames of `pages` pages from page `first` on; -ENODEV while the device has taken them back. */
  framesAt(first: number, pages: number): Int32Array | number {
    return this.#there ? this.#frames.slice(first, first + pages) : -Errno.ENODEV;
  }

  import(importer: DmaBufImporter): Disposable {
    this.#importers.add(importer);
    return { [Symbol.dispose]: () => void this.#importers.delete(importer) };
  }

  /** The device takes its memory back, or (`there`) lends it again to those who map it anew. */
  move(there: boolean): void {
    this.#there = there;
    if (there) return;
    for (const importer of [...this.#importers]) importer.revoked();
  }

  release(): void {}

  state(): unknown {
    return { pages: this.pages, there: this.#there };
  }
}
