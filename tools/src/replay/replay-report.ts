/** Results for people and for programs. */
import { basename } from 'node:path';
import type { ReplayResult } from './replay-result.js';

const SHOWN_DIFFERENCES = 10;

/** One object in one line. `mismatches` is a number; what they are is in `differences`. */
export function jsonReport(result: ReplayResult): string {
  return JSON.stringify(result);
}

/** A line per recording, in columns, and the first differences of each. */
export function textReport(results: readonly ReplayResult[]): string {
  const rows = results.map(({ file, operations, compared, mismatches, excused, skipped }) => [
    basename(file),
    `${operations} operations`,
    `${compared} compared`,
    mismatches === 1 ? '1 mismatch' : `${mismatches} mismatches`,
    [counts('excused', excused), counts('skipped', skipped)].filter(Boolean).join(', '),
  ]);
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => row[column]!.length))) ?? [];
  const lines: string[] = [];
  for (const [i, row] of rows.entries()) {
    const cells = row.map((cell, column) =>
      column === 0 || column === 4 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
    );
    lines.push(cells.join('  ').trimEnd(), ...differenceLines(results[i]!));
  }
  return lines.map(line => `${line}\n`).join('');
}

function differenceLines({ differences, mismatches }: ReplayResult): string[] {
  const lines = differences
    .slice(0, SHOWN_DIFFERENCES)
    .flatMap(({ line, expected, got }) => [
      `  line ${line}: expected ${expected}`,
      `  ${' '.repeat(`line ${line}:`.length)} but got  ${got}`,
    ]);
  const hidden = mismatches - Math.min(differences.length, SHOWN_DIFFERENCES);
  return hidden > 0 ? [...lines, `  and ${hidden} more`] : lines;
}

/** `skipped 4878 I, 181 N`; empty if there is nothing. */
function counts(what: string, byName: Readonly<Record<string, number>>): string {
  const entries = Object.entries(byName).filter(([, count]) => count > 0);
  return entries.length === 0 ? '' : `${what} ${entries.map(([name, count]) => `${count} ${name}`).join(', ')}`;
}
