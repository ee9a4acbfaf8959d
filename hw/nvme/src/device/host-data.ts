/**
 * The host's memory that a command names with PRPs (NVMe 1.4, 4.3): resolved to runs of bytes first, so that a list that makes no
 * sense moves nothing, and then copied.
 */
import { MemTx } from '@remora/core';
import type { PciFunction } from '@remora/pci';
import { DNR, MIN_PAGE_SHIFT, Status } from '../spec/index.js';
import { type Command, Location } from './command.js';

/** A PRP entry has 8 bytes. */
const ENTRY_SHIFT = 3;
const TWO_32 = 0x1_0000_0000;
/** Nothing will be there if the host asks again. */
const UNREACHABLE = Status.DATA_TRANSFER_ERROR | DNR;
const LARGEST_LIST = (1 << (MIN_PAGE_SHIFT + 4)) >>> 2;

export class HostData {
  readonly #dma: PciFunction['dma'];
  /** Runs of contiguous pages: address and bytes of each. */
  readonly #hi: Int32Array;
  readonly #lo: Int32Array;
  readonly #bytes: Int32Array;
  #runs = 0;
  /** Bytes that are to be found yet. */
  #left = 0;
  /** A page of a list, or what of it is needed. */
  readonly #list = new Int32Array(LARGEST_LIST);
  readonly #listBytes = new Uint8Array(this.#list.buffer);

  /** For commands of up to `largest` bytes. */
  constructor(dma: PciFunction['dma'], largest: number) {
    this.#dma = dma;
    const pages = (largest >>> MIN_PAGE_SHIFT) + 1;
    this.#hi = new Int32Array(pages);
    this.#lo = new Int32Array(pages);
    this.#bytes = new Int32Array(pages);
  }

  /** Resolves the PRPs of `command` for `length` bytes, in pages of `pageBytes`. Returns a status. */
  resolve(command: Command, length: number, pageBytes: number): number {
    this.#runs = 0;
    this.#left = length;
    const mask = pageBytes - 1;
    if ((command.prp1Lo & 3) !== 0) return command.fail(Status.PRP_OFFSET_INVALID, Location.PRP1);
    this.#add(command.prp1Hi, command.prp1Lo, pageBytes - (command.prp1Lo & mask));
    if (this.#left === 0) return Status.SUCCESS;
    if (this.#left > pageBytes) return this.#resolveList(command, pageBytes);
    if ((command.prp2Lo & mask) !== 0) return command.fail(Status.PRP_OFFSET_INVALID, Location.PRP2);
    this.#add(command.prp2Hi, command.prp2Lo, pageBytes);
    return Status.SUCCESS;
  }

  /** The list may begin anywhere in a page; where it has more entries than are left there, the last one points to the next page. */
  #resolveList(command: Command, pageBytes: number): number {
    const mask = pageBytes - 1;
    let hi = command.prp2Hi;
    let lo = command.prp2Lo;
    if ((lo & 7) !== 0) return command.fail(Status.PRP_OFFSET_INVALID, Location.PRP2);
    while (this.#left > 0) {
      const needed = Math.ceil(this.#left / pageBytes);
      const room = (pageBytes - (lo & mask)) >>> ENTRY_SHIFT;
      const count = Math.min(needed, room);
      if (this.#dma.read(hi, lo, this.#listBytes.subarray(0, count << ENTRY_SHIFT)) !== MemTx.OK) return UNREACHABLE;
      const pages = needed > room ? room - 1 : count;
      for (let i = 0; i < pages; i++) {
        const pageLo = this.#list[2 * i]!;
        if ((pageLo & mask) !== 0) return command.fail(Status.PRP_OFFSET_INVALID, Location.PRP2);
        this.#add(this.#list[2 * i + 1]!, pageLo, pageBytes);
      }
      if (pages === count) return Status.SUCCESS;
      hi = this.#list[2 * pages + 1]!;
      lo = this.#list[2 * pages]!;
      if ((lo & mask) !== 0) return command.fail(Status.PRP_OFFSET_INVALID, Location.PRP2);
    }
    return Status.SUCCESS;
  }

  /** Copies `from`, as long as what was resolved, to the host. Returns a status. */
  put(from: Uint8Array): number {
    let done = 0;
    for (let run = 0; run < this.#runs; run++) {
      const end = done + this.#bytes[run]!;
      const piece = from.subarray(done, end);
      if (this.#dma.write(this.#hi[run]!, this.#lo[run]!, piece) !== MemTx.OK) return UNREACHABLE;
      done = end;
    }
    return Status.SUCCESS;
  }

  /** Copies from the host into `into`, as long as what was resolved. Returns a status. */
  get(into: Uint8Array): number {
    let done = 0;
    for (let run = 0; run < this.#runs; run++) {
      const end = done + this.#bytes[run]!;
      const piece = into.subarray(done, end);
      if (this.#dma.read(this.#hi[run]!, this.#lo[run]!, piece) !== MemTx.OK) return UNREACHABLE;
      done = end;
    }
    return Status.SUCCESS;
  }

  #add(hi: number, lo: number, room: number): void {
    const bytes = Math.min(this.#left, room);
    this.#left -= bytes;
    const last = this.#runs - 1;
    const after = last < 0 ? 0 : (this.#lo[last]! >>> 0) + this.#bytes[last]!;
    if (last >= 0 && after < TWO_32 && after === lo >>> 0 && this.#hi[last] === hi) {
      this.#bytes[last]! += bytes;
      return;
    }
    this.#hi[this.#runs] = hi;
    this.#lo[this.#runs] = lo;
    this.#bytes[this.#runs] = bytes;
    this.#runs++;
  }
}
