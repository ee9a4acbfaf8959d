/** What the sweep needs of a scenario, however its lives are judged. */
import type { PlannedFailure } from './failure-points.js';
import { liveUndisturbed, liveWith } from './life-run.js';
import { observeUndisturbed, observeWith, type ObservedScenario } from './observed.js';
import { type Outcome, ScenarioError } from './outcome.js';
import type { FailNthScenario } from './scenario.js';

/** Either kind: with steps that can be tried again, or with steps that tell what they saw. */
export type AnyScenario = FailNthScenario | ObservedScenario;

/** An undisturbed life: its points of failure, and how a disturbed one is lived. */
export interface Subject {
  readonly points: readonly string[];
  readonly accesses: number;
  live(failure: PlannedFailure, whole: boolean): Outcome;
}

/** @throws ScenarioError if the scenario does not work undisturbed. */
export function subjectOf(scenario: AnyScenario): Subject {
  if ('begin' in scenario) {
    const model = working(scenario, () => liveUndisturbed(scenario));
    const { points, accesses } = model;
    return { points, accesses, live: (failure, whole) => liveWith(scenario, model, failure, whole) };
  }
  const model = working(scenario, () => observeUndisturbed(scenario));
  const { points, accesses } = model;
  return { points, accesses, live: failure => observeWith(scenario, model, failure) };
}

/** @throws ScenarioError for whatever goes wrong. */
function working<T>({ name }: AnyScenario, live: () => T): T {
  try {
    return live();
  } catch (cause) {
    if (cause instanceof ScenarioError || !(cause instanceof Error)) throw cause;
    const [what, which = ''] = cause.message.split('\n', 2);
    throw new ScenarioError(`${name}: ${what}${which === '' ? '' : ` ${which.trim()}`}`, { cause });
  }
}
