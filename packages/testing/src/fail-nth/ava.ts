import { failNth, type FailNthOptions, type FailNthReport } from './sweep.js';
import type { AnyScenario } from './subject.js';

/** What it needs of a test: AVA's `t`, or another runner's. */
export interface FailNthTest {
  log(...lines: string[]): void;
  deepEqual(actual: unknown, expected: unknown, message?: string): unknown;
  true(actual: boolean, message?: string): unknown;
}

/**
 * Sweeps a scenario as a test: `test('a bind', t => assertFailNth(t, { name: 'a bind', minimum: 40, begin }))`. Prints how many points of
 * failure there are, how many of them failed, and what was told how often; fails with each violation, or if there are fewer points than the scenario's `minimum`.
 */
export function assertFailNth(t: FailNthTest, scenario: AnyScenario, options: FailNthOptions = {}): FailNthReport {
  const report = failNth(scenario, options);
  const { points, pointsFailed, accesses, accessesFailed, minimum, outcomes, milliseconds, seed } = report;
  const failed = `${pointsFailed} of ${points} points of failure and ${accessesFailed} of ${accesses} memory accesses`;
  t.log(`${failed}: ${outcomes.length} lives, ${milliseconds} ms`);
  for (const [what, count] of toldHowOften(report)) t.log(`${count} x ${what}`);
  const violations = outcomes.flatMap(({ point, name, errno, violations: found }) =>
    found.map(each => `--seed ${seed} --point ${point} (${name}: ${errno}): ${each}`),
  );
  t.deepEqual(violations, []);
  t.true(points >= minimum, `${points} points of failure, at least ${minimum} are expected`);
  return report;
}

/** What was told in which step for which kind of point, in the order in which it came first. */
export function toldHowOften({ outcomes }: FailNthReport): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { step, name, told } of outcomes) {
    const what = `${step}, ${name} failed: ${told}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return counts;
}
