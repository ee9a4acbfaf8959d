/** Times of rounds as rows and as text. */
import type { Row } from './compare.js';

/** The median of the rounds' ratios. */
export function ratioRow(
  work: string,
  peer: string,
  target: number,
  ours: readonly number[],
  theirs: readonly number[],
): Row {
  const ratio = median(ours.map((time, round) => time / theirs[round]!));
  return { work, peer, ratio, target, met: ratio <= target };
}

/** One line: the median of each side, and its range. */
export function timesNote(
  title: string,
  unit: string,
  names: readonly string[],
  times: readonly (readonly number[])[],
): string {
  const sides = names.map((name, index) => {
    const values = times[index]!;
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return `${name} ${digits(median(values))} (${digits(least)} to ${digits(most)})`;
  });
  return `${title}, ${unit}, medians of ${times[0]!.length}: ${sides.join(', ')}`;
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

function digits(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}
