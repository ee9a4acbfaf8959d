/** Intervals in ascending order that do not overlap: what is mapped where. */

/** Points [start, end). */
export interface Interval<P extends number | bigint> {
  readonly start: P;
  readonly end: P;
}

export class IntervalList<P extends number | bigint, T extends Interval<P>> {
  readonly #items: T[] = [];

  get items(): readonly T[] {
    return this.#items;
  }

  /** Index of the first interval that ends after `point`; one past the last if there is none. */
  firstEndingAfter(point: P): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#items[middle]!.end > point) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The first interval that has a point in [start, end). */
  overlapping(start: P, end: P): T | undefined {
    const found = this.#items[this.firstEndingAfter(start)];
    return found !== undefined && found.start < end ? found : undefined;
  }

  /** `item` overlaps none of those that are there. */
  insert(item: T): void {
    const at = this.firstEndingAfter(item.start);
    if (at === this.#items.length) this.#items.push(item);
    else this.#items.splice(at, 0, item);
  }

  /** Takes out and returns `count` intervals from index `first` on. */
  remove(first: number, count: number): T[] {
    return this.#items.splice(first, count);
  }
}
