/** `remora fail-nth SCENARIO`: a scenario once for each thing that can fail in it. */
import { Errno, didYouMean } from '@remora/core';
import { type AnyScenario, failNth, type FailNthOptions, isClean, ScenarioError } from '@remora/testing';
import { UsageError } from '../cli/usage-error.js';
import type { Streams } from '../cli/streams.js';
import { jsonReport, textReport, textTold } from './fail-nth-report.js';
import { scenariosNamed } from './scenarios.js';

export interface FailNthCommandOptions {
  readonly seed: number;
  /** Name of the only errno. */
  readonly errno?: string;
  readonly point?: number;
  /** Name of the only points. */
  readonly only?: string;
  /** Of the memory accesses. Infinity: all. */
  readonly samples?: number;
  /** Of the accesses to registers. Infinity: all. */
  readonly registers?: number;
  readonly whole?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

const PROGRESS_INTERVAL_MS = 200;

/**
 * Returns the exit code: 0; 1 if something is violated, or there are fewer points than there must be.
 * @throws UsageError for a scenario, an errno or a point that there is not, or a scenario that does not work undisturbed.
 */
export async function runFailNth(named: string, options: FailNthCommandOptions, streams: Streams): Promise<number> {
  const scenarios = await scenariosNamed(named);
  if (options.point !== undefined && scenarios.length > 1) {
    throw new UsageError(`--point is one of one scenario: ${scenarios.map(({ name }) => name).join(', ')}`);
  }
  if (options.point !== undefined && options.only !== undefined) {
    throw new UsageError('--point and --only both choose points: give one of them');
  }
  const errno = options.errno === undefined ? undefined : errnoOf(options.errno);
  const width = Math.max(...scenarios.map(({ name }) => name.length));
  let exitCode = 0;
  for (const scenario of scenarios) {
    const report = sweep(scenario, options, errno, streams);
    if (!isClean(report)) exitCode = 1;
    if (options.json === true) {
      streams.stdout.write(`${jsonReport(report)}\n`);
      continue;
    }
    streams.stdout.write(textReport(report, width, scenarios.length === 1 ? named : scenario.name));
    if (options.verbose === true || options.point !== undefined) streams.stdout.write(textTold(report));
  }
  return exitCode;
}

function sweep(
  scenario: AnyScenario,
  { seed, point, only, samples, registers, whole }: FailNthCommandOptions,
  errno: number | undefined,
  streams: Streams,
): ReturnType<typeof failNth> {
  const sweeping: FailNthOptions = {
    seed,
    progress: progress(streams, scenario.name),
    ...(errno === undefined ? {} : { errno }),
    ...(point === undefined ? {} : { point }),
    ...(only === undefined ? {} : { only }),
    ...(samples === undefined ? {} : { samples }),
    ...(registers === undefined ? {} : { registers }),
    ...(whole === undefined ? {} : { whole }),
  };
  try {
    return failNth(scenario, sweeping);
  } catch (problem) {
    if (!(problem instanceof RangeError || problem instanceof ScenarioError)) throw problem;
    throw new UsageError(problem.message, { cause: problem });
  } finally {
    if (streams.stderr.isTTY === true) streams.stderr.write('\r\x1b[K');
  }
}

function errnoOf(name: string): number {
  const known: Readonly<Record<string, number>> = Errno;
  const errno = Object.hasOwn(known, name) ? known[name] : undefined;
  if (errno !== undefined) return errno;
  throw new UsageError(`--errno: there is no "${name}"${didYouMean(name, Object.keys(known))}`);
}

function progress({ stderr }: Streams, name: string): (lives: number, of: number) => void {
  let next = Date.now() + PROGRESS_INTERVAL_MS;
  return (lives, of) => {
    if (stderr.isTTY !== true || Date.now() < next) return;
    next = Date.now() + PROGRESS_INTERVAL_MS;
    stderr.write(`\r\x1b[K${name} ${lives} of ${of}`);
  };
}
