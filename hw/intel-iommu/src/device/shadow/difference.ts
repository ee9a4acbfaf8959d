/** From what a host was told to what it ought to have, without cutting what it was told in two. */
import { append, clipped, endOf, includes, type MappedRange } from './mapped-range.js';

/** Told ranges that go and ranges that come, where the ones overlap the others. One of the lists may be empty. */
export interface Change {
  readonly gone: readonly MappedRange[];
  readonly come: readonly MappedRange[];
}

export interface Difference {
  /** Told ranges that stay as they are. */
  readonly kept: readonly MappedRange[];
  /** Ascending. */
  readonly changes: readonly Change[];
}

/**
 * What ought to be told where `told` stands and in page frames [start, end): `found` in these, and outside them what was told. All lists are
 * ascending; `told` has the ranges that overlap [start, end), whole.
 */
export function wanted(
  told: readonly MappedRange[],
  found: readonly MappedRange[],
  start: number,
  end: number,
): MappedRange[] {
  const result: MappedRange[] = [];
  const before = told[0] === undefined ? undefined : clipped(told[0], 0, start);
  const after = told.length === 0 ? undefined : clipped(told.at(-1)!, end, Infinity);
  if (before !== undefined) append(result, before);
  for (const range of found) append(result, range);
  if (after !== undefined) append(result, after);
  return result;
}

/** A told range stays if `want`, which must be merged, maps all of it as before; otherwise it goes as a whole, and what is left of it comes anew. */
export function difference(told: readonly MappedRange[], want: readonly MappedRange[]): Difference {
  const kept: MappedRange[] = [];
  const gone: MappedRange[] = [];
  let at = 0;
  for (const range of told) {
    while (at < want.length && endOf(want[at]!) <= range.frame) at++;
    const wider = want[at];
    (wider !== undefined && includes(wider, range) ? kept : gone).push(range);
  }
  return { kept, changes: joined(gone, without(want, kept)) };
}

/** `want` without the pages of `kept`. */
function without(want: readonly MappedRange[], kept: readonly MappedRange[]): MappedRange[] {
  const result: MappedRange[] = [];
  let at = 0;
  for (const range of want) {
    let from = range.frame;
    for (; at < kept.length && kept[at]!.frame < endOf(range); at++) {
      const free = clipped(range, from, kept[at]!.frame);
      if (free !== undefined) result.push(free);
      from = endOf(kept[at]!);
    }
    const rest = clipped(range, from, Infinity);
    if (rest !== undefined) result.push(rest);
  }
  return result;
}

/** Puts together what overlaps. */
function joined(gone: readonly MappedRange[], come: readonly MappedRange[]): Change[] {
  const changes: Change[] = [];
  let g = 0;
  let c = 0;
  while (g < gone.length || c < come.length) {
    const change = { gone: [] as MappedRange[], come: [] as MappedRange[] };
    let end = Math.min(gone[g]?.frame ?? Infinity, come[c]?.frame ?? Infinity) + 1;
    for (;;) {
      if (g < gone.length && gone[g]!.frame < end) {
        end = Math.max(end, endOf(gone[g]!));
        change.gone.push(gone[g++]!);
      } else if (c < come.length && come[c]!.frame < end) {
        end = Math.max(end, endOf(come[c]!));
        change.come.push(come[c++]!);
      } else break;
    }
    changes.push(change);
  }
  return changes;
}
