/** Pages that I/O address spaces map: a stretch of a process' memory or of a file. Pinned while a page table, or anybody else, needs them. */
import { Errno, PAGE_BYTES } from '@remora/core';
import type { DmaBuf } from '../../files/dma-buf.js';
import type { MemFd } from '../../files/memfd.js';
import type { HostProcess } from '../../process.js';
import type { Kernel } from '../kernel.js';
import type { PinPayer } from '../pin-accounts.js';

const PAGE = BigInt(PAGE_BYTES);

/** Where pages are shown. */
export interface PagesView {
  /** They are about to be taken away: out of every page table, and unpinned. */
  hide(pages: IoPages): void;
}

/** Where pages are found. */
export interface PageSource {
  readonly kind: 'user' | 'file' | 'dma-buf';
  /** Byte at which the stretch begins, in a process' memory or in a file. */
  readonly address: bigint;
  /** The host frames of `pages` pages from the beginning of the stretch on; -EFAULT, or -EINVAL for what a file does not have. */
  frames(pages: number): Int32Array | number;
  /** Nobody maps it any more. */
  release(): void;
  /** Calls back when the pages are taken away. They are a device's then, and nobody's memory. */
  watch?(revoked: () => void): Disposable;
}

/** Memory of `process` from the page of `address` on, as it is when the pages are pinned. */
export function userPages(process: HostProcess, address: bigint): PageSource {
  const start = Number(address / PAGE) * PAGE_BYTES;
  return {
    kind: 'user',
    address: (address / PAGE) * PAGE,
    frames: pages => process.memory.framesAt(start, pages) ?? -Errno.EFAULT,
    release: () => {},
  };
}

/** A file from the page of byte `start` on. Only memory files have pages that can be pinned: others are -EINVAL, but not before. */
export function filePages(file: MemFd | undefined, start: bigint): PageSource {
  const first = Number(start / PAGE);
  file?.hold();
  return {
    kind: 'file',
    address: (start / PAGE) * PAGE,
    frames: pages => file?.framesAt(first, pages) ?? -Errno.EINVAL,
    release: () => file?.drop(),
  };
}

/** A dma-buf from the page of byte `start` on. */
export function dmaBufPages(buffer: DmaBuf, start: bigint): PageSource {
  const first = Number(start / PAGE);
  return {
    kind: 'dma-buf',
    address: (start / PAGE) * PAGE,
    frames: pages => buffer.framesAt(first, pages),
    release: () => {},
    watch: revoked => buffer.import({ revoked }),
  };
}

export class IoPages {
  readonly source: PageSource;
  readonly pages: number;
  readonly writable: boolean;
  readonly #kernel: Kernel;
  #payer: PinPayer;
  /** Areas that show them. */
  #areas = 0;
  #pins = 0;
  #frames: Int32Array | undefined;
  /** Whoever shows them, and has to hide them when they are taken away. */
  readonly #showing = new Set<PagesView>();
  readonly #watch: Disposable | undefined;
  #revoked = false;

  constructor(kernel: Kernel, source: PageSource, pages: number, writable: boolean, payer: PinPayer) {
    this.#kernel = kernel;
    this.source = source;
    this.pages = pages;
    this.writable = writable;
    this.#payer = payer;
    this.#watch = source.watch?.(() => this.#revoke());
  }

  /** Whether they were taken away: for good. */
  get revoked(): boolean {
    return this.#revoked;
  }

  /** Pinned frames. @throws Error unless they are pinned. */
  get frames(): Int32Array {
    if (this.#frames === undefined) throw new Error('these pages are not pinned');
    return this.#frames;
  }

  get payer(): PinPayer {
    return this.#payer;
  }

  get pinned(): boolean {
    return this.#frames !== undefined;
  }

  /** One more area of `view` shows them. */
  hold(view?: PagesView): void {
    this.#areas++;
    if (view !== undefined) this.#showing.add(view);
  }

  drop(): void {
    if (--this.#areas > 0) return;
    this.#watch?.[Symbol.dispose]();
    this.source.release();
  }

  /** Pins them for one more: all at once, as they are shown. -EFAULT, -EINVAL, or -ENOMEM if their payer has pinned too much. */
  pin(): number {
    if (this.#revoked) return -Errno.ENODEV;
    if (this.#frames === undefined) {
      const frames = this.source.frames(this.pages);
      if (typeof frames === 'number') return frames;
      if (this.#memory) {
        const error = this.#kernel.pins.charge(this.#payer, this.pages, this.#limit);
        if (error !== 0) return error;
        this.#kernel.frames.holdAll(frames);
      }
      this.#frames = frames;
    }
    this.#pins++;
    return 0;
  }

  unpin(): void {
    if (--this.#pins > 0) return;
    if (this.#memory) {
      this.#kernel.frames.dropAll(this.frames);
      this.#kernel.pins.refund(this.#payer, this.pages);
    }
    this.#frames = undefined;
  }

  /** Somebody else pays from now on; -ENOMEM if those cannot, then nothing has changed. */
  transfer(payer: PinPayer): number {
    if (this.pinned && this.#memory) {
      this.#kernel.pins.refund(this.#payer, this.pages);
      const error = this.#kernel.pins.charge(payer, this.pages, this.#limit);
      if (error !== 0) {
        this.#kernel.pins.charge(this.#payer, this.pages, Infinity);
        return error;
      }
    }
    this.#payer = payer;
    return 0;
  }

  /** What a device lends is no memory: nobody pays for it. */
  get #memory(): boolean {
    return this.source.kind !== 'dma-buf';
  }

  #revoke(): void {
    for (const view of this.#showing) view.hide(this);
    this.#revoked = true;
  }

  get #limit(): number {
    const { memlock } = this.#kernel.knobs;
    return memlock === undefined ? Infinity : Math.floor(memlock / PAGE_BYTES);
  }
}
