/** What one client lets its device reach: ranges of guest physical addresses, each at a place of the file that guest memory is in. */
import { Errno } from '@remora/core';
import { DmaMapFlag, MAX_DMA_MAPS, PAGE_SIZE } from './protocol.js';
import type { GuestFile } from './shared-file.js';

/** No bus carries a memory address with more bits than this. */
const ADDRESS_LIMIT = 2n ** 52n;
const SPACE_LIMIT = 2n ** 64n;
/** The largest place in a file that a system call takes here. */
const OFFSET_LIMIT = BigInt(Number.MAX_SAFE_INTEGER);

/** What a DMA_MAP asks for. */
export interface DmaMapRequest {
  readonly address: bigint;
  readonly size: bigint;
  /** In the file. */
  readonly offset: bigint;
  /** DmaMapFlag bits. */
  readonly flags: number;
  /** The file that the client passed, or 'none' if it passed none. Absent: who cannot be passed any has to infer it. */
  readonly backing?: GuestFile | 'none' | undefined;
}

export interface DmaRange {
  /** First guest physical address; `end` is exclusive. */
  readonly start: number;
  readonly end: number;
  /** Added to an address, gives the place in the file; undefined if the range is memory that is not in the file. */
  readonly delta: number | undefined;
  /** The file, if the client passed it; undefined: the one that all share. */
  readonly file: GuestFile | undefined;
  readonly readable: boolean;
  readonly writeable: boolean;
}

export class DmaMaps {
  /** Ascending; they do not overlap. */
  readonly #ranges: DmaRange[] = [];
  readonly #removed: (range: DmaRange) => void;
  /** The range of the last access, which the next one mostly hits again. */
  #last: DmaRange | undefined;

  /** `removed` is told of ranges that are no more. */
  constructor(removed: (range: DmaRange) => void = () => undefined) {
    this.#removed = removed;
  }

  /** Ascending by address. */
  get ranges(): readonly DmaRange[] {
    return this.#ranges;
  }

  /**
   * Adds a range. Returns 0 or a Linux error number, and nothing has changed then: EINVAL for no size, one that is not of whole pages or
   * wraps around, and for flags that make no sense; ERANGE beyond 2^52; EEXIST over another range; ENOSPC for too many.
   */
  map(request: DmaMapRequest): number {
    const { address, size, offset, flags, backing } = request;
    const page = BigInt(PAGE_SIZE);
    if (size === 0n || (address | size | offset) % page !== 0n || address + size > SPACE_LIMIT) return Errno.EINVAL;
    if (flags === 0 || (flags & ~(DmaMapFlag.READABLE | DmaMapFlag.WRITEABLE)) !== 0) return Errno.EINVAL;
    if (address + size > ADDRESS_LIMIT || offset + size > OFFSET_LIMIT) return Errno.ERANGE;
    const start = Number(address);
    const end = Number(address + size);
    const index = this.#after(start);
    if (index > 0 && this.#ranges[index - 1]!.end > start) return Errno.EEXIST;
    if (index < this.#ranges.length && this.#ranges[index]!.start < end) return Errno.EEXIST;
    if (this.#ranges.length >= MAX_DMA_MAPS) return Errno.ENOSPC;
    this.#ranges.splice(index, 0, {
      start,
      end,
      delta: this.#inFile(request) ? Number(offset) - start : undefined,
      file: typeof backing === 'object' ? backing : undefined,
      readable: (flags & DmaMapFlag.READABLE) !== 0,
      writeable: (flags & DmaMapFlag.WRITEABLE) !== 0,
    });
    return 0;
  }

  /** Removes the range that is exactly this. Returns 0, or ENOENT. */
  unmap(address: bigint, size: bigint): number {
    const index = this.#ranges.findIndex(each => BigInt(each.start) === address);
    if (index < 0 || BigInt(this.#ranges[index]!.end) !== address + size) return Errno.ENOENT;
    const [removed] = this.#ranges.splice(index, 1);
    this.#last = undefined;
    this.#removed(removed!);
    return 0;
  }

  clear(): void {
    const removed = this.#ranges.splice(0);
    this.#last = undefined;
    for (const range of removed) this.#removed(range);
  }

  /** The range that `address` lies in. */
  find(address: number): DmaRange | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    const range = this.#ranges[this.#after(address) - 1];
    if (range === undefined || address >= range.end) return undefined;
    return (this.#last = range);
  }

  /**
   * Whether the range is in the file. The client sends a descriptor with a range only if it is, but one who reads without asking for
   * descriptors cannot see that, and offset 0 is also what the others have. So ROM at offset 0 is taken to be none of it, and so is what
   * would show a part of the file that another range shows already: RAM comes first, and the memory of a display has offset 0 as well.
   */
  #inFile({ address, size, offset, flags, backing }: DmaMapRequest): boolean {
    if (backing !== undefined) return backing !== 'none';
    if (offset !== 0n) return true;
    if ((flags & DmaMapFlag.WRITEABLE) === 0) return false;
    const end = Number(size);
    const delta = -Number(address);
    return !this.#ranges.some(each => {
      if (each.delta === undefined || each.delta === delta) return false;
      return each.start + each.delta < end;
    });
  }

  /** Index of the first range that starts beyond `address`. */
  #after(address: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
