/** fail-nth: a scenario is lived through once for each of its points of failure and each plausible errno. Linux: tools/testing, fail_nth. */
import { Random } from '@remora/bits';
import { errnoName, MemTx } from '@remora/core';
import { plausibleErrnos } from './errnos.js';
import { MEMORY_ACCESS, type PlannedFailure } from './failure-points.js';
import { liveUndisturbed, liveWith, type ModelLife } from './life-run.js';
import type { FailNthScenario } from './scenario.js';

export interface FailNthOptions {
  /** Chooses the memory accesses; default 1. */
  readonly seed?: number;
  /** How many memory accesses are made to fail, of however many there are; default 16. */
  readonly memorySamples?: number;
  /** This positive errno instead of the plausible ones; memory is left alone then. */
  readonly errno?: number;
  /** This point only, by its number. */
  readonly point?: number;
  /** Each life goes on to its end, instead of one step further. */
  readonly whole?: boolean;
  readonly progress?: (runs: number, of: number) => void;
}

/** A point of failure and what came of it. */
export interface FailNthOutcome {
  /** From 0; those of memory accesses follow the others. */
  readonly point: number;
  readonly name: string;
  /** `ENOMEM`, or `DECODE_ERROR` of memory. */
  readonly errno: string;
  readonly step: string;
  readonly told: string;
  readonly violations: readonly string[];
}

export interface FailNthReport {
  readonly scenario: string;
  /** Points of failure: calls, allocations and insertions, and the memory accesses that were chosen. */
  readonly points: number;
  /** How many memory accesses those were chosen of. */
  readonly accesses: number;
  /** At least so many points were asked for. */
  readonly minimum: number;
  readonly seed: number;
  /** One life each. */
  readonly outcomes: readonly FailNthOutcome[];
  readonly milliseconds: number;
}

interface Point {
  readonly number: number;
  readonly name: string;
  readonly failures: readonly { readonly errno: string; readonly failure: PlannedFailure }[];
}

const MEMORY_SAMPLES = 16;
const MEMORY_RESULTS = [
  ['ERROR', MemTx.ERROR],
  ['DECODE_ERROR', MemTx.DECODE_ERROR],
] as const;

/** @throws ScenarioError if the scenario does not work undisturbed; RangeError if there is no such point. */
export function failNth(scenario: FailNthScenario, options: FailNthOptions = {}): FailNthReport {
  const { seed = 1, memorySamples = MEMORY_SAMPLES, progress } = options;
  const started = performance.now();
  const model = liveUndisturbed(scenario);
  const all = [...eventPoints(model, options.errno), ...memoryPoints(model, seed, memorySamples)];
  const chosen = choose(scenario, all, options);
  const total = chosen.reduce((sum, point) => sum + point.failures.length, 0);
  const outcomes: FailNthOutcome[] = [];
  for (const { number, name, failures } of chosen) {
    for (const { errno, failure } of failures) {
      const { struck, step, told, violations } = liveWith(scenario, model, failure, options.whole);
      const astray = struck !== undefined && struck !== name ? [`the point was ${struck}, not ${name}`] : [];
      outcomes.push({ point: number, name, errno, step, told, violations: [...violations, ...astray] });
      progress?.(outcomes.length, total);
    }
  }
  const milliseconds = Math.round(performance.now() - started);
  const { name, minimum = 0 } = scenario;
  return { scenario: name, points: all.length, accesses: model.accesses, minimum, seed, outcomes, milliseconds };
}

/** Whether nothing is violated, and there are as many points as there must be. */
export function isClean(report: FailNthReport): boolean {
  return report.points >= report.minimum && report.outcomes.every(({ violations }) => violations.length === 0);
}

function eventPoints({ points }: ModelLife, errno: number | undefined): Point[] {
  return points.map((name, number) => {
    const errnos = errno === undefined ? plausibleErrnos(name) : [errno];
    const failures = errnos.map(each => ({ errno: errnoName(each), failure: { event: number, errno: each } }));
    return { number, name, failures };
  });
}

function memoryPoints({ points, accesses }: ModelLife, seed: number, samples: number): Point[] {
  const random = new Random(seed);
  const chosen = new Set<number>();
  while (chosen.size < Math.min(samples, accesses)) chosen.add(random.below(accesses));
  return [...chosen]
    .sort((a, b) => a - b)
    .map((access, index) => ({
      number: points.length + index,
      name: MEMORY_ACCESS,
      failures: MEMORY_RESULTS.map(([errno, result]) => ({ errno, failure: { access, result } })),
    }));
}

function choose(scenario: FailNthScenario, all: readonly Point[], { point, errno }: FailNthOptions): readonly Point[] {
  if (point === undefined) return errno === undefined ? all : all.filter(({ name }) => name !== MEMORY_ACCESS);
  const found = all[point];
  if (found === undefined) {
    throw new RangeError(`${scenario.name} has ${all.length} points of failure, from 0 on; there is no ${point}`);
  }
  return [found];
}
