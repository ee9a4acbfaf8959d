/**
 * RAM: bytes behind page frames, in chunks of 64 MiB that are allocated when first written; the operating system backs them page by page. A block
 * either owns its chunks, frame for frame, or is a *view*: its frames are scattered over another block by a table. Guest RAM is such a view of host
 * memory, so that there is one copy of every byte.
 *
 * Chunks are shared array buffers because the garbage collector does not count those. Of others it counts every byte as used, touched or not, and
 * ran for each machine that was assembled: 4 ms, and 9 with chunks of 4 MiB that are not shared.
 */
import { MemTx } from './memtx.js';
import type { MemoryPort } from './port.js';

export const PAGE_BYTES = 4096;
const CHUNK_SHIFT = 14;
const CHUNK_FRAMES = 1 << CHUNK_SHIFT;
const CHUNK_BYTES = CHUNK_FRAMES * PAGE_BYTES;
const FRAMES_PER_HI = 0x10_0000;
const NO_WORDS = new Int32Array(0);
const MAX_FRAMES = 2 ** 31 - 1;
const ZEROES = new Uint8Array(PAGE_BYTES);

export class Ram implements MemoryPort {
  /** Size in bytes, a multiple of 4096. */
  readonly size: number;
  /** Size in page frames. */
  readonly frames: number;
  readonly #chunks: (Int32Array | undefined)[];
  readonly #table: Int32Array | undefined;
  /** The chunk of the last load, which the next one mostly hits again: a walk took 68 ns, not 73. */
  #recent = -1;
  #recentChunk: Int32Array = NO_WORDS;

  private constructor(frames: number, chunks: (Int32Array | undefined)[], table: Int32Array | undefined) {
    this.frames = frames;
    this.size = frames * PAGE_BYTES;
    this.#chunks = chunks;
    this.#table = table;
  }

  /** A block of `size` zero bytes. @throws RangeError unless `size` is a positive multiple of 4096 below 8 TiB. */
  static allocate(size: number): Ram {
    const frames = size / PAGE_BYTES;
    if (!Number.isInteger(frames) || frames <= 0 || frames > MAX_FRAMES)
      throw new RangeError(`not a RAM size: ${size}`);
    return new Ram(frames, new Array<Int32Array | undefined>(Math.ceil(frames / CHUNK_FRAMES)), undefined);
  }

  /**
   * A block over memory that others made: `piece` gives the bytes from `offset` on, as a buffer of `length` bytes.
   * @throws RangeError as `allocate`.
   */
  static over(size: number, piece: (offset: number, length: number) => ArrayBufferLike): Ram {
    const ram = Ram.allocate(size);
    for (let index = 0; index < ram.#chunks.length; index++) {
      const offset = index * CHUNK_BYTES;
      ram.#chunks[index] = new Int32Array(piece(offset, Math.min(CHUNK_BYTES, size - offset)));
    }
    return ram;
  }

  /**
   * A block whose frame `i` is frame `table[i]` of this block. The table is read at every access, so its owner may move frames;
   * an entry of -1 is a hole (reads and writes answer MemTx.DECODE_ERROR).
   */
  view(table: Int32Array): Ram {
    if (this.#table !== undefined) throw new RangeError('a view of a view: scatter over the block that owns the bytes');
    return new Ram(table.length, this.#chunks, table);
  }

  /** The frame of the owning block that holds frame `frame`; -1 for a hole. */
  backing(frame: number): number {
    return this.#table === undefined ? frame : this.#table[frame]!;
  }

  /** Whether frame `frame` (below `frames`) has nothing but zeroes; a hole has. */
  isZero(frame: number): boolean {
    const backing = this.backing(frame);
    const chunk = backing < 0 ? undefined : this.#chunks[backing >>> CHUNK_SHIFT];
    if (chunk === undefined) return true;
    // Saving a machine looks at every page that was ever written: this took a seventh of the time of a loop over words.
    return Buffer.compare(bytesOf(chunk, backing, 0, PAGE_BYTES), ZEROES) === 0;
  }

  /** Like `load`, for words that lie in one page: `frame` (below `frames`) and `word` (0 .. 1023) instead of an address. */
  loadInFrame(frame: number, word: number, out: Int32Array, at: number, count: number): MemTx {
    const backing = this.#table === undefined ? frame : this.#table[frame]!;
    if (backing >>> CHUNK_SHIFT !== this.#recent && !this.#turnTo(backing))
      return this.#loadNothing(backing, out, at, count);
    const chunk = this.#recentChunk;
    const base = ((backing & (CHUNK_FRAMES - 1)) << 10) + word;
    if (count === 2) {
      // A paging entry: 4 ns, and 5.5 as a loop.
      out[at] = chunk[base]!;
      out[at + 1] = chunk[base + 1]!;
    } else {
      for (let i = 0; i < count; i++) out[at + i] = chunk[base + i]!;
    }
    return MemTx.OK;
  }

  /** Like `store`, as `loadInFrame`. */
  storeInFrame(frame: number, word: number, from: Int32Array, at: number, count: number): MemTx {
    const backing = this.#table === undefined ? frame : this.#table[frame]!;
    if (backing >>> CHUNK_SHIFT !== this.#recent) {
      if (backing < 0) return MemTx.DECODE_ERROR;
      this.#chunk(backing);
      this.#turnTo(backing);
    }
    const chunk = this.#recentChunk;
    const base = ((backing & (CHUNK_FRAMES - 1)) << 10) + word;
    for (let i = 0; i < count; i++) chunk[base + i] = from[at + i]!;
    return MemTx.OK;
  }

  /** Makes the chunk of a frame the recent one. False if there is none. */
  #turnTo(backing: number): boolean {
    const chunk = this.#chunks[backing >>> CHUNK_SHIFT];
    if (chunk === undefined) return false;
    this.#recent = backing >>> CHUNK_SHIFT;
    this.#recentChunk = chunk;
    return true;
  }

  #loadNothing(backing: number, out: Int32Array, at: number, count: number): MemTx {
    if (backing < 0) return MemTx.DECODE_ERROR;
    out.fill(0, at, at + count);
    return MemTx.OK;
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    let left = count;
    let to = at;
    let frame = (hi >>> 0) * FRAMES_PER_HI + (lo >>> 12);
    let word = (lo & 0xfff) >>> 2;
    while (left > 0) {
      if (frame >= this.frames) return MemTx.DECODE_ERROR;
      const backing = this.#table === undefined ? frame : this.#table[frame]!;
      if (backing < 0) return MemTx.DECODE_ERROR;
      const chunk = this.#chunks[backing >>> CHUNK_SHIFT];
      const run = left < 1024 - word ? left : 1024 - word;
      if (chunk === undefined) {
        for (let i = 0; i < run; i++) out[to + i] = 0;
      } else {
        const base = ((backing & (CHUNK_FRAMES - 1)) << 10) + word;
        for (let i = 0; i < run; i++) out[to + i] = chunk[base + i]!;
      }
      left -= run;
      to += run;
      frame++;
      word = 0;
    }
    return MemTx.OK;
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    const first = (hi >>> 0) * FRAMES_PER_HI + (lo >>> 12);
    let word = (lo & 0xfff) >>> 2;
    if (!this.#backed(first, word * 4 + count * 4)) return MemTx.DECODE_ERROR;
    let left = count;
    let source = at;
    for (let frame = first; left > 0; frame++) {
      const backing = this.#table === undefined ? frame : this.#table[frame]!;
      const chunk = this.#chunk(backing);
      const run = left < 1024 - word ? left : 1024 - word;
      const base = ((backing & (CHUNK_FRAMES - 1)) << 10) + word;
      for (let i = 0; i < run; i++) chunk[base + i] = from[source + i]!;
      left -= run;
      source += run;
      word = 0;
    }
    return MemTx.OK;
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    let frame = (hi >>> 0) * FRAMES_PER_HI + (lo >>> 12);
    let offset = lo & 0xfff;
    if (!this.#backed(frame, offset + out.length)) return MemTx.DECODE_ERROR;
    for (let done = 0; done < out.length; frame++) {
      const run = Math.min(out.length - done, PAGE_BYTES - offset);
      const backing = this.backing(frame);
      const chunk = this.#chunks[backing >>> CHUNK_SHIFT];
      if (chunk === undefined) out.fill(0, done, done + run);
      else out.set(bytesOf(chunk, backing, offset, run), done);
      done += run;
      offset = 0;
    }
    return MemTx.OK;
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    let frame = (hi >>> 0) * FRAMES_PER_HI + (lo >>> 12);
    let offset = lo & 0xfff;
    if (!this.#backed(frame, offset + from.length)) return MemTx.DECODE_ERROR;
    for (let done = 0; done < from.length; frame++) {
      const run = Math.min(from.length - done, PAGE_BYTES - offset);
      const backing = this.backing(frame);
      bytesOf(this.#chunk(backing), backing, offset, run).set(from.subarray(done, done + run));
      done += run;
      offset = 0;
    }
    return MemTx.OK;
  }

  /** Whether `bytes` bytes from the start of frame `first` are all there; nothing is written unless they are. */
  #backed(first: number, bytes: number): boolean {
    const end = first + Math.ceil(bytes / PAGE_BYTES);
    if (end > this.frames) return false;
    if (this.#table === undefined) return true;
    for (let frame = first; frame < end; frame++) if (this.#table[frame]! < 0) return false;
    return true;
  }

  #chunk(backing: number): Int32Array {
    const index = backing >>> CHUNK_SHIFT;
    return (this.#chunks[index] ??= new Int32Array(new SharedArrayBuffer(CHUNK_BYTES)));
  }
}

function bytesOf(chunk: Int32Array, backing: number, offset: number, length: number): Uint8Array {
  return new Uint8Array(chunk.buffer, ((backing & (CHUNK_FRAMES - 1)) << 12) + offset, length);
}
