/** `npm run bench`: arguments in, a table or JSON out. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { compare, type Comparison, DifferentResults, type Row } from './compare.js';
import { FIRST_REPLY } from './first-reply.js';
import { LIVE_REGISTERS } from './live/registers.js';
import { LIVE_DISKS } from './live/disks.js';
import { WORKS } from './works.js';

export const BENCH_USAGE = '[--json FILE] [--only TEXT] [--rounds N]';

export interface BenchStreams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean | undefined };
}

const OPTIONS = { json: { type: 'string' }, only: { type: 'string' }, rounds: { type: 'string' } } as const;

interface Benchmark {
  readonly title: string;
  /** Runs each side `rounds` times, or as often as it needs by itself. @throws DifferentResults */
  compare(rounds?: number): Promise<Comparison>;
}

const BENCHMARKS: readonly Benchmark[] = [
  ...WORKS.map(work => ({ title: work.title, compare: (rounds?: number) => compare(work, rounds) })),
  FIRST_REPLY,
  LIVE_REGISTERS,
  LIVE_DISKS,
];

/** Exit code: 0; 1 if the two sides of a comparison computed different results; 2 for bad arguments. A target missed is no error. */
export async function runBench(args: readonly string[], streams: BenchStreams): Promise<number> {
  let given;
  try {
    given = parseArgs({ args: [...args], options: OPTIONS, strict: true }).values;
  } catch (error) {
    streams.stderr.write(`bench: ${(error as Error).message.split('.')[0]!}; usage: ${BENCH_USAGE}\n`);
    return 2;
  }
  const rounds = given.rounds === undefined ? undefined : Number(given.rounds);
  const works = BENCHMARKS.filter(({ title }) => title.includes(given.only ?? ''));
  if (works.length === 0 || (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0))) {
    const problem =
      works.length === 0 ? `--only: nothing is called "${given.only!}"` : '--rounds: not a positive number';
    streams.stderr.write(`bench: ${problem}\n`);
    return 2;
  }
  const rows: Row[] = [];
  const skipped: string[] = [];
  const notes: string[] = [];
  for (const [index, work] of works.entries()) {
    progress(streams, `[${index + 1}/${works.length}] ${work.title}`);
    try {
      const result = await work.compare(rounds);
      rows.push(...result.rows);
      skipped.push(...result.skipped);
      notes.push(...(result.notes ?? []));
    } catch (error) {
      progress(streams, '');
      if (!(error instanceof DifferentResults)) throw error;
      streams.stderr.write(`bench: ${work.title}: ${error.message}\n`);
      return 1;
    }
  }
  progress(streams, '');
  streams.stdout.write(benchText(rows));
  for (const each of notes) streams.stdout.write(`${each}\n`);
  for (const each of skipped) streams.stderr.write(`left out: ${each}\n`);
  if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify(rows, undefined, 2)}\n`);
  return 0;
}

/** The rows for people: times as ratios, ours by the peer's. */
export function benchText(rows: readonly Row[]): string {
  const cells = rows.map(({ work, peer, ratio, target, met }) => [
    work,
    peer,
    factor(ratio),
    factor(target),
    met ? 'yes' : 'no',
  ]);
  const table = [['work', 'peer', 'ratio', 'at most', 'met'], ...cells];
  const widths = table[0]!.map((_, column) => Math.max(...table.map(line => line[column]!.length)));
  const text = table.map(line =>
    line
      .map((cell, column) => align(cell, widths[column]!, column))
      .join('  ')
      .trimEnd(),
  );
  return `${text.join('\n')}\n`;
}

function align(cell: string, width: number, column: number): string {
  return column === 2 || column === 3 ? cell.padStart(width) : cell.padEnd(width);
}

/** `1/50` reads better than 0.02. */
function factor(ratio: number): string {
  return ratio > 0.5 ? ratio.toFixed(2) : `1/${(1 / ratio).toFixed(1 / ratio < 10 ? 1 : 0)}`;
}

/** What is being measured, on a terminal; an empty text wipes it. */
function progress({ stderr }: BenchStreams, text: string): void {
  if (stderr.isTTY === true) stderr.write(`\r\x1b[K${text}`);
}
