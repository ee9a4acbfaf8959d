/** The virtual address space of a host process: anonymous mappings, each a view of scattered host frames. */
import { frameHi, frameLo, hva, type Hva, Random } from '@remora/bits';
import { Errno, PAGE_BYTES, type Ram } from '@remora/core';
import type { MappedMemory } from '@remora/host';
import type { Frames } from './frames.js';

/** As Linux on x86-64: mappings grow downwards from below the stack. */
const TOP = 0x7fff_f000_0000;
const GUARD_PAGES = 16;
const HOLE = -1;

interface Mapping {
  readonly start: number;
  readonly end: number;
  readonly table: Int32Array;
  readonly ram: Ram;
  /** Pages that are still mapped. */
  live: number;
}

/** A mapping as dumps show it. */
export interface MappingState {
  readonly address: number;
  readonly bytes: number;
}

export class ProcessMemory {
  readonly #memory: Ram;
  readonly #frames: Frames;
  /** Descending by address. */
  readonly #mappings: Mapping[] = [];
  readonly #neighbouring: boolean;
  #next: number;

  /** `neighbouring`: each mapping is of frames that follow each other. */
  constructor(memory: Ram, frames: Frames, seed: number, neighbouring = false) {
    this.#neighbouring = neighbouring;
    this.#memory = memory;
    this.#frames = frames;
    this.#next = TOP - new Random(seed).below(0x10_0000) * PAGE_BYTES;
  }

  /** Maps `length` zeroed bytes; -EINVAL unless that is a positive multiple of 4096, -ENOMEM if the host has no frames left. */
  map(length: number): MappedMemory | number {
    const table = this.takeFrames(length);
    return typeof table === 'number' ? table : this.mapFrames(table);
  }

  /** Zeroed frames for `length` bytes, each held once; -EINVAL and -ENOMEM as map says. */
  takeFrames(length: number): Int32Array | number {
    const pages = length / PAGE_BYTES;
    if (!Number.isSafeInteger(pages) || pages <= 0) return -Errno.EINVAL;
    if (pages > this.#memory.frames) return -Errno.ENOMEM;
    return this.#take(pages) ?? -Errno.ENOMEM;
  }

  /** Maps these frames, in this order, and takes over that they are held once for it. */
  mapFrames(table: Int32Array): MappedMemory {
    const length = table.length * PAGE_BYTES;
    const start = this.#next - length;
    this.#next = start - GUARD_PAGES * PAGE_BYTES;
    const ram = this.#memory.view(table);
    this.#mappings.push({ start, end: start + length, table, ram, live: table.length });
    return { address: hva(start), ram };
  }

  /** Pages in the range that are not mapped are passed over. Pinned frames stay until they are unpinned. */
  unmap(address: Hva, length: number): number {
    if (address % PAGE_BYTES !== 0 || !Number.isSafeInteger(length) || length <= 0) return -Errno.EINVAL;
    const end = address + Math.ceil(length / PAGE_BYTES) * PAGE_BYTES;
    for (const mapping of [...this.#mappings]) {
      const from = Math.max(address, mapping.start);
      const to = Math.min(end, mapping.end);
      for (let at = from; at < to; at += PAGE_BYTES) this.#drop(mapping, (at - mapping.start) / PAGE_BYTES);
      if (mapping.live === 0) this.#mappings.splice(this.#mappings.indexOf(mapping), 1);
    }
    return 0;
  }

  /** The host frames behind `pages` pages from `address` on, which is aligned; undefined if one of them is not mapped. */
  framesAt(address: number, pages: number): Int32Array | undefined {
    if (pages > this.#memory.frames) return undefined;
    const frames = new Int32Array(pages);
    for (let done = 0; done < pages;) {
      const at = address + done * PAGE_BYTES;
      const mapping = this.#mappings.find(({ start, end }) => at >= start && at < end);
      if (mapping === undefined) return undefined;
      const first = (at - mapping.start) / PAGE_BYTES;
      const run = Math.min(pages - done, mapping.table.length - first);
      for (let page = 0; page < run; page++) {
        const frame = mapping.table[first + page]!;
        if (frame === HOLE) return undefined;
        frames[done + page] = frame;
      }
      done += run;
    }
    return frames;
  }

  /** Copies from the process into `bytes`: 0, or -EFAULT if a part of the memory is not there. */
  read(address: number, bytes: Uint8Array): number {
    return this.#access(address, bytes, false);
  }

  /** Copies `bytes` into the process: 0, or -EFAULT if a part of the memory is not there; then nothing was written. */
  write(address: number, bytes: Uint8Array): number {
    return this.#access(address, bytes, true);
  }

  state(): MappingState[] {
    return this.#mappings.map(({ start, live }) => ({ address: start, bytes: live * PAGE_BYTES }));
  }

  /** Unmaps everything. */
  clear(): void {
    for (const { start, end } of [...this.#mappings]) this.unmap(hva(start), end - start);
  }

  /** As many frames, each held once; undefined, and none, if there are not so many. */
  #take(pages: number): Int32Array | undefined {
    if (this.#neighbouring) {
      const first = this.#frames.takeRun(pages);
      return first === undefined ? undefined : Int32Array.from({ length: pages }, (_, page) => first + page);
    }
    const table = new Int32Array(pages);
    for (let page = 0; page < pages; page++) {
      const frame = this.#frames.take();
      if (frame === undefined) {
        for (let taken = 0; taken < page; taken++) this.#frames.drop(table[taken]!);
        return undefined;
      }
      table[page] = frame;
    }
    return table;
  }

  #access(address: number, bytes: Uint8Array, write: boolean): number {
    if (bytes.length === 0) return 0;
    const first = address % PAGE_BYTES;
    const frames = this.framesAt(address - first, Math.ceil((first + bytes.length) / PAGE_BYTES));
    if (frames === undefined) return -Errno.EFAULT;
    for (let done = 0; done < bytes.length;) {
      const offset = (first + done) % PAGE_BYTES;
      const frame = frames[(first + done - offset) / PAGE_BYTES]!;
      const part = bytes.subarray(done, done + PAGE_BYTES - offset);
      if (write) this.#memory.write(frameHi(frame), frameLo(frame) + offset, part);
      else this.#memory.read(frameHi(frame), frameLo(frame) + offset, part);
      done += part.length;
    }
    return 0;
  }

  #drop(mapping: Mapping, page: number): void {
    const frame = mapping.table[page]!;
    if (frame === HOLE) return;
    mapping.table[page] = HOLE;
    mapping.live--;
    this.#frames.drop(frame);
  }
}
