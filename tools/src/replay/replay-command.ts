/** `remora replay FILE[.gz]... [--json]` */
import { replayFile } from './replay-file.js';
import { jsonReport, textReport } from './replay-report.js';
import type { ReplayResult } from './replay-result.js';
import { TraceError } from './trace-error.js';

export const REPLAY_USAGE = 'remora replay FILE[.gz]... [--json]';

/** Where a command writes. */
export interface CommandStreams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean | undefined };
}

const EXIT_MISMATCH = 1;
const EXIT_BAD_INPUT = 2;
const PROGRESS_INTERVAL_MS = 200;

/**
 * Replays each file and reports. Returns the exit code: 0 if all agree, 1 on a mismatch, 2 if an argument or a file is bad (one
 * line on `stderr` each; the other files are replayed nevertheless).
 */
export async function runReplay(args: readonly string[], streams: CommandStreams): Promise<number> {
  const files = args.filter(arg => !arg.startsWith('--'));
  const unknown = args.find(arg => arg.startsWith('--') && arg !== '--json');
  if (unknown !== undefined || files.length === 0) {
    const problem = unknown !== undefined ? `unknown option ${unknown}` : 'expected a file';
    streams.stderr.write(`remora replay: ${problem}; usage: ${REPLAY_USAGE}\n`);
    return EXIT_BAD_INPUT;
  }
  const json = args.includes('--json');
  const results: ReplayResult[] = [];
  let exitCode = 0;
  for (const [i, file] of files.entries()) {
    const progress = new ProgressLine(
      streams.stderr,
      files.length > 1 ? `${file} (${i + 1} of ${files.length})` : file,
    );
    try {
      const result = await replayFile(file, { onProgress: (bytes, total) => progress.show(bytes, total) });
      progress.clear();
      results.push(result);
      if (json) streams.stdout.write(`${jsonReport(result)}\n`);
      if (result.mismatches > 0) exitCode = Math.max(exitCode, EXIT_MISMATCH);
    } catch (error) {
      progress.clear();
      if (!(error instanceof TraceError)) throw error;
      streams.stderr.write(`remora replay: ${error.message}\n`);
      exitCode = EXIT_BAD_INPUT;
    }
  }
  if (!json) streams.stdout.write(textReport(results));
  return exitCode;
}

/** A line on a terminal that is written over while work goes on. */
class ProgressLine {
  readonly #stream: CommandStreams['stderr'];
  readonly #name: string;
  #next = Date.now() + PROGRESS_INTERVAL_MS;
  #shown = false;

  constructor(stream: CommandStreams['stderr'], name: string) {
    this.#stream = stream;
    this.#name = name;
  }

  show(bytes: number, total: number): void {
    if (this.#stream.isTTY !== true || Date.now() < this.#next) return;
    this.#next = Date.now() + PROGRESS_INTERVAL_MS;
    this.#shown = true;
    this.#stream.write(`\r\x1b[K${this.#name} ${Math.floor((bytes / total) * 100)} %`);
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\x1b[K');
  }
}
