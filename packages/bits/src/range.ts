/** Half-open ranges `[start, end)` over numbers. An empty range has `start === end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** @throws RangeError unless `0 <= start <= end`, both safe integers. */
export function range(start: number, end: number): Range {
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start) {
    throw new RangeError(`not a range: [${start}, ${end})`);
  }
  return { start, end };
}

/** Whether `a` and `b` share at least one value. */
export function overlaps(a: Range, b: Range): boolean {
  return a.start < b.end && b.start < a.end;
}

/** Whether all of `inner` lies in `outer`. */
export function contains(outer: Range, inner: Range): boolean {
  return outer.start <= inner.start && inner.end <= outer.end;
}

/** What `a` and `b` share; undefined if nothing. */
export function intersect(a: Range, b: Range): Range | undefined {
  const start = Math.max(a.start, b.start);
  const end = Math.min(a.end, b.end);
  return start < end ? { start, end } : undefined;
}

/** What is left of `from` without `hole`, in ascending order: none, one or two ranges. */
export function subtract(from: Range, hole: Range): Range[] {
  if (!overlaps(from, hole)) return from.start < from.end ? [from] : [];
  const left: Range[] = [];
  if (from.start < hole.start) left.push({ start: from.start, end: hole.start });
  if (hole.end < from.end) left.push({ start: hole.end, end: from.end });
  return left;
}
