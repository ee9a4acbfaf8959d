/** Ranges of pages that are contiguous on both sides and of one permission; frames are of 4 KiB. */
export interface MappedRange {
  readonly frame: number;
  readonly pages: number;
  /** What `frame` maps to. */
  readonly outFrame: number;
  /** Access bits; 0 if nothing is mapped. */
  readonly access: number;
}

/** The first frame behind a range. */
export function endOf({ frame, pages }: MappedRange): number {
  return frame + pages;
}

/** Appends to an ascending list; what continues its last range becomes part of it. */
export function append(list: MappedRange[], range: MappedRange): void {
  const last = list.at(-1);
  if (last !== undefined && continues(last, range)) {
    list[list.length - 1] = { ...last, pages: last.pages + range.pages };
  } else {
    list.push(range);
  }
}

function continues(last: MappedRange, next: MappedRange): boolean {
  return endOf(last) === next.frame && last.outFrame + last.pages === next.outFrame && last.access === next.access;
}

/** The part of a range that lies in [start, end); undefined if there is none. */
export function clipped(range: MappedRange, start: number, end: number): MappedRange | undefined {
  const from = Math.max(range.frame, start);
  const to = Math.min(endOf(range), end);
  if (from >= to) return undefined;
  return { frame: from, pages: to - from, outFrame: range.outFrame + from - range.frame, access: range.access };
}

/** Whether `wider` maps all pages of `range`, each as `range` does. */
export function includes(wider: MappedRange, range: MappedRange): boolean {
  return (
    wider.frame <= range.frame &&
    endOf(range) <= endOf(wider) &&
    wider.access === range.access &&
    wider.outFrame - wider.frame === range.outFrame - range.frame
  );
}

/** Index of the first of an ascending list's ranges that ends behind `frame`. */
export function firstEndingAfter(list: readonly MappedRange[], frame: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(list[middle]!) > frame) high = middle;
    else low = middle + 1;
  }
  return low;
}
