/** A namespace in memory: blocks that are allocated when first written. Its contents are part of the machine's state. */
import type { StateReader, StateWriter } from '@remora/core';
import type { Backing } from './backing.js';

const BLOCK_SHIFT = 16;
const BLOCK_BYTES = 1 << BLOCK_SHIFT;

export class MemoryBacking implements Backing {
  readonly size: number;
  readonly zeroes = true;
  readonly place = 'memory';
  /** By their number; the others are zero. */
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(size: number) {
    this.size = size;
  }

  read(offset: number, out: Uint8Array): boolean {
    for (let done = 0; done < out.length;) {
      const at = (offset + done) % BLOCK_BYTES;
      const count = Math.min(out.length - done, BLOCK_BYTES - at);
      const block = this.#blocks.get(Math.floor((offset + done) / BLOCK_BYTES));
      if (block === undefined) out.fill(0, done, done + count);
      else out.set(block.subarray(at, at + count), done);
      done += count;
    }
    return true;
  }

  write(offset: number, from: Uint8Array): boolean {
    for (let done = 0; done < from.length;) {
      const at = (offset + done) % BLOCK_BYTES;
      const count = Math.min(from.length - done, BLOCK_BYTES - at);
      this.#block(Math.floor((offset + done) / BLOCK_BYTES)).set(from.subarray(done, done + count), at);
      done += count;
    }
    return true;
  }

  /** Whole blocks are given back. There are never more steps than blocks that exist, however long the range is. */
  zero(offset: number, length: number): boolean {
    const end = offset + length;
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.ceil(end / BLOCK_BYTES);
    if (last - first <= this.#blocks.size) {
      for (let index = first; index < last; index++) this.#zeroIn(index, offset, end);
    } else {
      for (const index of [...this.#blocks.keys()])
        if (index >= first && index < last) this.#zeroIn(index, offset, end);
    }
    return true;
  }

  erase(): boolean {
    this.#blocks.clear();
    return true;
  }

  deallocate(offset: number, length: number): void {
    this.zero(offset, length);
  }

  flush(): boolean {
    return true;
  }

  allocated(): number {
    return this.#blocks.size * BLOCK_BYTES;
  }

  save(into: StateWriter): void {
    const blocks = [...this.#blocks].sort(([a], [b]) => a - b);
    into.list('blocks', blocks, (each, [index, bytes]) => each.integer('index', index).bytes('bytes', bytes));
  }

  load(from: StateReader): void {
    this.#blocks.clear();
    for (const each of from.list('blocks', 2 ** 32)) {
      const index = each.integer('index', { max: Math.ceil(this.size / BLOCK_BYTES) - 1 });
      each.bytes('bytes', this.#block(index));
    }
  }

  [Symbol.dispose](): void {
    this.#blocks.clear();
  }

  /** Zeroes what of block `index` lies in [start, end). */
  #zeroIn(index: number, start: number, end: number): void {
    const base = index * BLOCK_BYTES;
    if (start <= base && end >= base + BLOCK_BYTES) this.#blocks.delete(index);
    else this.#blocks.get(index)?.fill(0, Math.max(start - base, 0), Math.min(end - base, BLOCK_BYTES));
  }

  #block(index: number): Uint8Array {
    let block = this.#blocks.get(index);
    if (block === undefined) {
      block = new Uint8Array(BLOCK_BYTES);
      this.#blocks.set(index, block);
    }
    return block;
  }
}
