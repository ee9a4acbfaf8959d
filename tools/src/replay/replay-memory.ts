/**
 * Guest memory as far as a recording knows it: bytes that the recording tells, zeros elsewhere, and bus errors where the recorded
 * unit had one. What the model writes is kept and reported.
 */
import { MemTx, type MemoryPort } from '@remora/core';

const PAGE_BYTES = 4096;
const FRAMES_PER_HI = 0x10_0000;

export class ReplayMemory implements MemoryPort {
  readonly #pages = new Map<number, Uint8Array>();
  /** Frames where nothing answers. */
  readonly #holes = new Set<number>();
  readonly #written: (hi: number, lo: number, bytes: Uint8Array) => void;

  /** `written` sees each write of the model: the bytes are only good during the call. */
  constructor(written: (hi: number, lo: number, bytes: Uint8Array) => void) {
    this.#written = written;
  }

  /** Puts bytes there that the recording knows of; there is memory then. */
  put(hi: number, lo: number, bytes: Uint8Array): void {
    this.#each(hi, lo, bytes.length, (frame, offset, from, length) => {
      this.#holes.delete(frame);
      this.#page(frame).set(bytes.subarray(from, from + length), offset);
    });
  }

  zero(hi: number, lo: number, length: number): void {
    this.#each(hi, lo, length, (frame, offset, _from, run) => this.#page(frame).fill(0, offset, offset + run));
  }

  /** There is no memory at these bytes' pages. */
  fail(hi: number, lo: number, length: number): void {
    this.#each(hi, lo, length, frame => this.#holes.add(frame));
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    return this.read(hi, lo, new Uint8Array(out.buffer, out.byteOffset + at * 4, count * 4));
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    return this.write(hi, lo, new Uint8Array(from.buffer, from.byteOffset + at * 4, count * 4));
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    if (this.#fails(hi, lo, out.length)) return MemTx.DECODE_ERROR;
    this.#each(hi, lo, out.length, (frame, offset, from, length) => {
      const page = this.#pages.get(frame);
      if (page === undefined) out.fill(0, from, from + length);
      else out.set(page.subarray(offset, offset + length), from);
    });
    return MemTx.OK;
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    if (this.#fails(hi, lo, from.length)) return MemTx.DECODE_ERROR;
    this.#each(hi, lo, from.length, (frame, offset, at, length) => {
      this.#page(frame).set(from.subarray(at, at + length), offset);
    });
    this.#written(hi, lo, from);
    return MemTx.OK;
  }

  #fails(hi: number, lo: number, length: number): boolean {
    if (this.#holes.size === 0) return false;
    let fails = false;
    this.#each(hi, lo, length, frame => (fails ||= this.#holes.has(frame)));
    return fails;
  }

  #page(frame: number): Uint8Array {
    const known = this.#pages.get(frame);
    if (known !== undefined) return known;
    const page = new Uint8Array(PAGE_BYTES);
    this.#pages.set(frame, page);
    return page;
  }

  /** Calls `visit` for each page's share: `length` bytes at `offset` of the page, which are bytes `from ..` of the whole. */
  #each(
    hi: number,
    lo: number,
    length: number,
    visit: (frame: number, offset: number, from: number, length: number) => void,
  ): void {
    let frame = (hi >>> 0) * FRAMES_PER_HI + (lo >>> 12);
    let offset = lo & 0xfff;
    for (let from = 0; from < length; frame++, offset = 0) {
      const run = Math.min(length - from, PAGE_BYTES - offset);
      visit(frame, offset, from, run);
      from += run;
    }
  }
}
