/** Which IOVAs of an I/O address space may be used: what is reserved, what must stay free, what alignment is asked for, and where there is room. */
import { Errno, PAGE_BYTES } from '@remora/core';
import { type Interval, IntervalList } from '../interval-list.js';

/** Bytes [start, end); `end` is 2^64 at most. */
export type IovaBytes = Interval<bigint>;

interface Reserved extends IovaBytes {
  /** Who cannot do with it: a device, or a domain. */
  readonly owner: object;
}

const END = 2n ** 64n;
const PAGE = BigInt(PAGE_BYTES);
/** A page of the second size: automatic IOVAs leave room for it, and for no more. */
const HUGE_PAGE = 0x20_0000n;

export class IovaRoom {
  /** Ascending by start; may overlap. */
  readonly #reserved: Reserved[] = [];
  #allowed = new IntervalList<bigint, IovaBytes>();

  /** What is not reserved, ascending. */
  holes(): IovaBytes[] {
    const found: IovaBytes[] = [];
    let start = 0n;
    for (const reserved of [...this.#reserved, { start: END, end: END }]) {
      if (start < reserved.start) found.push({ start, end: reserved.start });
      if (reserved.end > start) start = reserved.end;
    }
    return found;
  }

  isReserved({ start, end }: IovaBytes): boolean {
    return this.#reserved.some(reserved => reserved.start < end && reserved.end > start);
  }

  /** -EADDRINUSE if a range is in use, or promised to stay free; then none is reserved. */
  reserve(owner: object, ranges: readonly IovaBytes[], used: IntervalList<bigint, IovaBytes>): number {
    const taken = ({ start, end }: IovaBytes): boolean =>
      used.overlapping(start, end) !== undefined || this.#allowed.overlapping(start, end) !== undefined;
    if (ranges.some(taken)) return -Errno.EADDRINUSE;
    for (const { start, end } of ranges) this.#reserved.push({ start, end, owner });
    this.#reserved.sort((a, b) => (a.start < b.start ? -1 : Number(a.start > b.start)));
    return 0;
  }

  unreserve(owner: object): void {
    const kept = this.#reserved.filter(reserved => reserved.owner !== owner);
    this.#reserved.splice(0, this.#reserved.length, ...kept);
  }

  /** Replaces what must stay free, and is all that is chosen from; -EADDRINUSE if a part of it is reserved. */
  allow(ranges: IntervalList<bigint, IovaBytes>): number {
    if (ranges.items.some(range => this.isReserved(range))) return -Errno.EADDRINUSE;
    this.#allowed = ranges;
    return 0;
  }

  /**
   * A free place for `length` bytes that lie at byte `address` where they come from: as well aligned as these, so that large pages can be used.
   * -EOVERFLOW for lengths that leave no room, -EINVAL if `address` is less aligned than `alignment`, -ENOSPC.
   */
  choose(length: bigint, address: bigint, alignment: bigint, used: IntervalList<bigint, IovaBytes>): bigint | number {
    if (length === 0n || length >= END / 2n - 1n) return -Errno.EOVERFLOW;
    const wanted = alignmentFor(length, address);
    if (wanted < alignment) return -Errno.EINVAL;
    const offset = address % PAGE;
    const whole = [{ start: PAGE, end: END - PAGE }];
    const windows = this.#allowed.items.length === 0 ? whole : this.#allowed.items;
    for (const window of windows) {
      for (const hole of this.holes()) {
        const end = least(window.end, hole.end, END - PAGE);
        let start = most(window.start, hole.start, PAGE);
        for (let at = used.firstEndingAfter(start); start < end; at++) {
          const next = used.items[at];
          const gapEnd = next === undefined ? end : least(next.start, end);
          const place = (((start + wanted - 1n) / wanted) * wanted) | offset;
          if (place + length <= gapEnd) return place;
          if (next === undefined) break;
          start = next.end;
        }
      }
    }
    return -Errno.ENOSPC;
  }

  state(): unknown {
    const shown = ({ start, end }: IovaBytes): string => `${start.toString(16)}-${(end - 1n).toString(16)}`;
    return { reserved: this.#reserved.map(shown), allowed: this.#allowed.items.map(shown) };
  }
}

function alignmentFor(length: bigint, address: bigint): bigint {
  let wanted = 1n;
  while (wanted < length && wanted < HUGE_PAGE) wanted *= 2n;
  const lowest = address & -address;
  return address !== 0n && lowest < wanted ? lowest : wanted;
}

function least(...values: bigint[]): bigint {
  return values.reduce((a, b) => (b < a ? b : a));
}

function most(...values: bigint[]): bigint {
  return values.reduce((a, b) => (b > a ? b : a));
}
