/** fail-nth: a scenario is lived through once for each of its points of failure and each plausible errno. Linux: tools/testing, fail_nth. */
import { Random } from '@remora/bits';
import { didYouMean, errnoName, MemTx } from '@remora/core';
import { plausibleErrnos } from './errnos.js';
import { MEMORY_ACCESS, type PlannedFailure } from './failure-points.js';
import { type AnyScenario, type Subject, subjectOf } from './subject.js';

export interface FailNthOptions {
  /** Chooses what is sampled; default 1. */
  readonly seed?: number;
  /** So many of the memory accesses are made to fail, chosen by the seed; default 16. Infinity: all of them. */
  readonly samples?: number;
  /**
   * So many of the accesses to a device's registers (pread, pwrite) are made to fail, chosen by the seed: most of a life's points are some, and all
   * are alike. Default: Infinity, all of them.
   */
  readonly registers?: number;
  /** This positive errno instead of the plausible ones; memory is left alone then. */
  readonly errno?: number;
  /** Points of this name only, as `VFIO_IOMMU_BIND`, or that begin with this word, as `open`; all of them then. */
  readonly only?: string;
  /** This point only, by its number. */
  readonly point?: number;
  /** Each life goes on to its end, instead of one step further. */
  readonly whole?: boolean;
  readonly progress?: (runs: number, of: number) => void;
}

/** A point of failure and what came of it. */
export interface FailNthOutcome {
  /** From 0; memory accesses are counted after all others. */
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
  /** Points of failure: calls, allocations and insertions. */
  readonly points: number;
  /** So many of them were made to fail; fewer than there are if they were sampled, or a person chose. */
  readonly pointsFailed: number;
  /** Accesses to memory beside them. */
  readonly accesses: number;
  /** So many of those were made to fail. */
  readonly accessesFailed: number;
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

const SAMPLES = 16;
const REGISTER_ACCESSES = new Set(['pread', 'pwrite']);
const MEMORY_RESULTS = [
  ['ERROR', MemTx.ERROR],
  ['DECODE_ERROR', MemTx.DECODE_ERROR],
] as const;

/** @throws ScenarioError if the scenario does not work undisturbed; RangeError if there is no such point. */
export function failNth(scenario: AnyScenario, options: FailNthOptions = {}): FailNthReport {
  const { seed = 1, progress } = options;
  const started = performance.now();
  const subject = subjectOf(scenario);
  const all = [...eventPoints(subject, options.errno), ...memoryPoints(subject)];
  const chosen = choose(scenario, all, options);
  const total = chosen.reduce((sum, point) => sum + point.failures.length, 0);
  const outcomes: FailNthOutcome[] = [];
  for (const { number, name, failures } of chosen) {
    for (const { errno, failure } of failures) {
      const { struck, step, told, violations } = subject.live(failure, options.whole === true);
      const astray = struck !== undefined && struck !== name ? [`the point was ${struck}, not ${name}`] : [];
      outcomes.push({ point: number, name, errno, step, told, violations: [...violations, ...astray] });
      progress?.(outcomes.length, total);
    }
  }
  const milliseconds = Math.round(performance.now() - started);
  const { name, minimum = 0 } = scenario;
  return {
    scenario: name,
    points: subject.points.length,
    pointsFailed: chosen.filter(({ name: each }) => each !== MEMORY_ACCESS).length,
    accesses: subject.accesses,
    accessesFailed: chosen.filter(({ name: each }) => each === MEMORY_ACCESS).length,
    minimum,
    seed,
    outcomes,
    milliseconds,
  };
}

/** Whether nothing is violated, and there are as many points as there must be. */
export function isClean(report: FailNthReport): boolean {
  return report.points >= report.minimum && report.outcomes.every(({ violations }) => violations.length === 0);
}

function eventPoints({ points }: Subject, errno: number | undefined): Point[] {
  return points.map((name, number) => {
    const errnos = errno === undefined ? plausibleErrnos(name) : [errno];
    const failures = errnos.map(each => ({ errno: errnoName(each), failure: { event: number, errno: each } }));
    return { number, name, failures };
  });
}

function memoryPoints({ points, accesses }: Subject): Point[] {
  return Array.from({ length: accesses }, (_, access) => ({
    number: points.length + access,
    name: MEMORY_ACCESS,
    failures: MEMORY_RESULTS.map(([errno, result]) => ({ errno, failure: { access, result } })),
  }));
}

/** @throws RangeError if nothing is left. */
function choose(scenario: AnyScenario, all: readonly Point[], options: FailNthOptions): readonly Point[] {
  const { point, only } = options;
  if (point !== undefined) return [pointOf(scenario, all, point)];
  if (only === undefined) return sampled(all, options);
  const named = all.filter(({ name }) => name === only || name.startsWith(`${only} `));
  if (named.length > 0) return named;
  const names = all.map(({ name }) => name);
  throw new RangeError(`${scenario.name} has no point of failure "${only}"${didYouMean(only, names)}`);
}

/** Every point but those of which some are enough. Which memory accesses are chosen depends on the seed alone. */
function sampled(all: readonly Point[], options: FailNthOptions): readonly Point[] {
  const { seed = 1, samples = SAMPLES, registers = Infinity, errno } = options;
  const random = new Random(seed);
  const leftOut = (which: (point: Point) => boolean, enough: number): number[] => {
    const numbers = all.filter(which).map(({ number }) => number);
    return random.shuffle(numbers).slice(enough);
  };
  const left = new Set([
    ...leftOut(({ name }) => REGISTER_ACCESSES.has(name), registers),
    ...leftOut(({ name }) => name === MEMORY_ACCESS, errno === undefined ? samples : 0),
  ]);
  return all.filter(({ number }) => !left.has(number));
}

function pointOf(scenario: AnyScenario, all: readonly Point[], number: number): Point {
  const found = all[number];
  if (found !== undefined) return found;
  throw new RangeError(
    `${scenario.name} has ${all.length} points of failure, from 0 to ${all.length - 1}; there is no ${number}`,
  );
}
