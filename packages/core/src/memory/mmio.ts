import { logger, rateLimited } from '../log.js';
import { MemTx } from './memtx.js';
import type { TxAttrs } from './memtx.js';

/** Register accesses of a device. Offsets are in bytes from the start of the region. QEMU: MemoryRegionOps. */
export interface MmioOps {
  /**
   * Access sizes in bytes that the device accepts: powers of two in 1..8, default `{ min: 1, max: 8 }`. A transfer is cut into
   * naturally aligned accesses of at most `max` bytes (with `unaligned`, alignment does not matter); a piece smaller than `min`
   * answers MemTx.DECODE_ERROR, and so ends the transfer. QEMU: .valid.
   */
  readonly valid?: { readonly min: number; readonly max: number; readonly unaligned?: boolean };
  /**
   * Access sizes that `read` and `write` below really see, always naturally aligned; default `{ min: 4, max: 4 }`. A larger access
   * is split, low address first. A smaller read is widened; a smaller write reads, modifies and writes, so a device with
   * registers where that matters (write-1-to-clear) declares a smaller `min` here or a larger one in `valid`. QEMU: .impl.
   */
  readonly impl?: { readonly min: number; readonly max: number };
  /**
   * The device expects to be re-entered: an access to this region while another one is in progress is let through. Otherwise it
   * answers MemTx.ACCESS_ERROR, since a guest can aim a device's DMA at its own registers. QEMU: disable_reentrancy_guard.
   */
  readonly reentrant?: boolean;
  /** Reads 1, 2 or 4 bytes; the bits beyond `size` are ignored. */
  read(offset: number, size: number, attrs: TxAttrs): number;
  /** Writes 1, 2 or 4 bytes; `value` is unsigned. */
  write(offset: number, value: number, size: number, attrs: TxAttrs): void;
  /** Reads 8 bytes: `out[0]` is the low word. Required if `impl.max` is 8. */
  read64?(offset: number, out: Int32Array, attrs: TxAttrs): void;
  /** Writes 8 bytes. Required if `impl.max` is 8. */
  write64?(offset: number, hi: number, lo: number, attrs: TxAttrs): void;
}

const log = rateLimited(logger('remora:core:memory'), 20);

const DEFAULT_VALID = { min: 1, max: 8 };
const DEFAULT_IMPL = { min: 4, max: 4 };
/** Even devices that allow it are not re-entered deeper than this: a guest must not choose our stack's depth. */
const MAX_DEPTH = 8;

/** An MMIO region's behaviour: checks, splits, widens and merges accesses on their way to the device. */
export class Mmio {
  readonly #name: string;
  readonly #ops: MmioOps;
  readonly #validMin: number;
  readonly #validMax: number;
  readonly #unaligned: boolean;
  readonly #implMin: number;
  readonly #implMax: number;
  readonly #maxDepth: number;
  readonly #words = new Int32Array(2);
  #depth = 0;

  /** @throws RangeError if the declared sizes make no sense or the 64-bit accessors are missing. */
  constructor(name: string, ops: MmioOps) {
    const valid = checkSizes(`${name}: valid`, ops.valid ?? DEFAULT_VALID);
    const impl = checkSizes(`${name}: impl`, ops.impl ?? DEFAULT_IMPL);
    if (impl.max === 8 && (ops.read64 === undefined || ops.write64 === undefined)) {
      throw new RangeError(`${name}: impl.max 8 needs read64 and write64`);
    }
    this.#name = name;
    this.#ops = ops;
    this.#validMin = valid.min;
    this.#validMax = valid.max;
    this.#unaligned = ops.valid?.unaligned ?? false;
    this.#implMin = impl.min;
    this.#implMax = impl.max;
    this.#maxDepth = ops.reentrant === true ? MAX_DEPTH : 1;
  }

  /** Reads `out.length` bytes from `offset`, or writes them; stops at the first piece that the device does not accept. */
  transfer(offset: number, bytes: Uint8Array, write: boolean, attrs: TxAttrs): MemTx {
    if (this.#depth >= this.#maxDepth) {
      log.warn('%s: refused an access from inside an access to it', this.#name);
      return MemTx.ACCESS_ERROR;
    }
    this.#depth++;
    try {
      const length = bytes.length;
      // Nearly every access is one register of a width that the device has.
      if (
        (length === 4 || length === 8) &&
        offset % length === 0 &&
        length >= this.#validMin &&
        length <= this.#validMax &&
        length >= this.#implMin &&
        length <= this.#implMax
      ) {
        this.#whole(offset, bytes, length, write, attrs);
        return MemTx.OK;
      }
      for (let done = 0; done < bytes.length;) {
        const from = offset + done;
        let size = floorPowerOfTwo(Math.min(bytes.length - done, this.#validMax));
        if (!this.#unaligned) size = naturallyAligned(from, size);
        if (size < this.#validMin) return MemTx.DECODE_ERROR;
        this.#access(from, bytes, done, size, write, attrs);
        done += size;
      }
      return MemTx.OK;
    } finally {
      this.#depth--;
    }
  }

  /** An access that is valid and implemented as it is: 4 or 8 bytes. */
  #whole(offset: number, bytes: Uint8Array, length: number, write: boolean, attrs: TxAttrs): void {
    const words = this.#words;
    if (!write) {
      this.#fetch(offset, length, attrs);
      putWord(bytes, 0, words[0]!);
      if (length === 8) putWord(bytes, 4, words[1]!);
    } else if (length === 8) {
      this.#ops.write64!(offset, wordAt(bytes, 4), wordAt(bytes, 0), attrs);
    } else {
      this.#ops.write(offset, wordAt(bytes, 0), 4, attrs);
    }
  }

  /** One valid access, as accesses that are implemented. */
  #access(offset: number, bytes: Uint8Array, at: number, size: number, write: boolean, attrs: TxAttrs): void {
    for (let done = 0; done < size;) {
      const from = offset + done;
      const piece = naturallyAligned(from, floorPowerOfTwo(Math.min(size - done, this.#implMax)));
      const width = Math.max(piece, this.#implMin);
      const skip = from & (width - 1);
      const count = Math.min(size - done, width - skip);
      if (write) this.#write(from - skip, bytes, at + done, skip, count, width, attrs);
      else this.#read(from - skip, bytes, at + done, skip, count, width, attrs);
      done += count;
    }
  }

  /** Reads `width` bytes and keeps `count` of them, from byte `skip` on. */
  #read(offset: number, out: Uint8Array, at: number, skip: number, count: number, width: number, attrs: TxAttrs): void {
    this.#fetch(offset, width, attrs);
    for (let i = 0; i < count; i++) {
      const place = skip + i;
      out[at + i] = this.#words[place >>> 2]! >>> ((place & 3) * 8);
    }
  }

  /** Writes `width` bytes of which `count`, from byte `skip` on, are new. */
  #write(
    offset: number,
    from: Uint8Array,
    at: number,
    skip: number,
    count: number,
    width: number,
    attrs: TxAttrs,
  ): void {
    const words = this.#words;
    if (count < width) this.#fetch(offset, width, attrs);
    else words.fill(0);
    for (let i = 0; i < count; i++) {
      const shift = ((skip + i) & 3) * 8;
      const word = (skip + i) >>> 2;
      words[word] = (words[word]! & ~(0xff << shift)) | (from[at + i]! << shift);
    }
    if (width === 8) this.#ops.write64!(offset, words[1]! >>> 0, words[0]! >>> 0, attrs);
    else
      this.#ops.write(offset, width === 4 ? words[0]! >>> 0 : words[0]! & (width === 2 ? 0xffff : 0xff), width, attrs);
  }

  #fetch(offset: number, width: number, attrs: TxAttrs): void {
    if (width === 8) this.#ops.read64!(offset, this.#words, attrs);
    else this.#words[0] = this.#ops.read(offset, width, attrs);
  }
}

function checkSizes(what: string, sizes: { readonly min: number; readonly max: number }): { min: number; max: number } {
  const { min, max } = sizes;
  const known = [1, 2, 4, 8];
  if (!known.includes(min) || !known.includes(max) || min > max) {
    throw new RangeError(`${what}: {min: ${min}, max: ${max}} are not access sizes (1, 2, 4, 8)`);
  }
  return { min, max };
}

/** The 4 bytes from `at` on as an unsigned number, little-endian. */
function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function putWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word;
  bytes[at + 1] = word >>> 8;
  bytes[at + 2] = word >>> 16;
  bytes[at + 3] = word >>> 24;
}

/** The largest of 1, 2, 4, 8 that is not above `size`. */
function floorPowerOfTwo(size: number): number {
  return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

/** `size`, halved until `offset` is a multiple of it. */
function naturallyAligned(offset: number, size: number): number {
  let aligned = size;
  while ((offset & (aligned - 1)) !== 0) aligned >>>= 1;
  return aligned;
}
