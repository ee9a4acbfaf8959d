/**
 * A function's configuration space: bytes, and for each byte which bits a guest may write and which it clears by writing 1.
 * The device defines its registers while it is built; from then on guests write through the masks and devices through `set*`.
 */
import { CONFIG_BYTES, EXTENDED_CONFIG_BYTES } from './registers.js';

/** Called before guest reads that touch the range it refreshes; `offset` and `size` are the whole access. */
export type ConfigRefresher = (offset: number, size: number) => void;

/** Called after guest writes (and resets) that touched the range it watches; `offset` and `size` are the whole access. */
export type ConfigWatcher = (offset: number, size: number) => void;

interface Watch {
  readonly start: number;
  readonly end: number;
  readonly call: ConfigWatcher | ConfigRefresher;
}

export class ConfigSpace {
  /** 256, or 4096 for PCI Express. */
  readonly size: number;
  /** Current values. Devices may read this directly. */
  readonly bytes: Uint8Array;
  /** The same as little-endian words, for records: a capability at offset `o` starts at word `o / 4`. */
  readonly words: Int32Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #power: Uint8Array;
  readonly #watches: Watch[] = [];
  readonly #refreshes: Watch[] = [];

  constructor(express: boolean) {
    this.size = express ? EXTENDED_CONFIG_BYTES : CONFIG_BYTES;
    this.words = new Int32Array(this.size / 4);
    this.bytes = new Uint8Array(this.words.buffer);
    this.#writable = new Uint8Array(this.size);
    this.#clearable = new Uint8Array(this.size);
    this.#power = new Uint8Array(this.size);
  }

  /**
   * Defines a register of `size` bytes (1, 2 or 4): its value after reset, the bits that guests may write, and those that a
   * guest clears by writing 1.
   */
  define(offset: number, size: number, value: number, writable = 0, clearable = 0): void {
    for (let i = 0; i < size; i++) {
      this.#power[offset + i] = value >>> (8 * i);
      this.bytes[offset + i] = value >>> (8 * i);
      this.#writable[offset + i] = writable >>> (8 * i);
      this.#clearable[offset + i] = clearable >>> (8 * i);
    }
  }

  /** Calls `changed` after every guest write and every reset that touches `[start, end)`. */
  onWrite(range: { readonly start: number; readonly end: number }, changed: ConfigWatcher): void {
    this.#watches.push({ start: range.start, end: range.end, call: changed });
  }

  /** Calls `refresh` before every guest read that touches `[start, end)`: for registers whose truth is elsewhere. */
  onRead(range: { readonly start: number; readonly end: number }, refresh: ConfigRefresher): void {
    this.#refreshes.push({ start: range.start, end: range.end, call: refresh });
  }

  /** A guest's read of 1, 2 or 4 bytes: unsigned. Bytes beyond the end read as ones. */
  read(offset: number, size: number): number {
    notify(this.#refreshes, offset, size);
    return this.#get(offset, size);
  }

  /** A guest's write of 1, 2 or 4 bytes. What the masks do not let through is ignored, and so are bytes beyond the end. */
  write(offset: number, value: number, size: number): void {
    for (let i = 0; i < size && offset + i < this.size; i++) {
      const at = offset + i;
      const written = (value >>> (8 * i)) & 0xff;
      const writable = this.#writable[at]!;
      const kept = this.bytes[at]! & ~writable & ~(written & this.#clearable[at]!);
      this.bytes[at] = kept | (written & writable);
    }
    notify(this.#watches, offset, size);
  }

  get8(offset: number): number {
    return this.bytes[offset]!;
  }

  get16(offset: number): number {
    return this.#get(offset, 2);
  }

  get32(offset: number): number {
    return this.#get(offset, 4);
  }

  /** The device's own write: no masks, no watchers, and the value after reset stays what it was. */
  set(offset: number, value: number, size: number): void {
    for (let i = 0; i < size; i++) this.bytes[offset + i] = value >>> (8 * i);
  }

  /** Every register back to its value after reset; then each watcher is told once. */
  reset(): void {
    this.bytes.set(this.#power);
    notify(this.#watches, 0, this.size);
  }

  #get(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | (this.bytes[offset + i] ?? 0xff);
    return value >>> 0;
  }
}

function notify(watches: readonly Watch[], offset: number, size: number): void {
  for (const watch of watches) {
    if (offset < watch.end && watch.start < offset + size) watch.call(offset, size);
  }
}
