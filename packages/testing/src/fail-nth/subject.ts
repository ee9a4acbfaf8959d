/** What the sweep needs of a scenario, however its lives are judged. */
import type { PlannedFailure } from './failure-points.js';
import { liveUndisturbed, liveWith } from './life-run.js';
import { observeUndisturbed, observeWith, type ObservedScenario } from './observed.js';
import type { Outcome } from './outcome.js';
import type { FailNthScenario } from './scenario.js';
import { sameAgain, working } from './undisturbed.js';

/** Either kind: with steps that can be tried again, or with steps that tell what they saw. */
export type AnyScenario = FailNthScenario | ObservedScenario;

/** An undisturbed life: its points of failure, and how a disturbed one is lived. */
export interface Subject {
  readonly points: readonly string[];
  readonly accesses: number;
  live(failure: PlannedFailure, whole: boolean): Outcome;
}

/** @throws ScenarioError if the scenario does not work undisturbed, or asks for something else each time. */
export function subjectOf(scenario: AnyScenario): Subject {
  if ('begin' in scenario) {
    const model = twice(scenario, () => liveUndisturbed(scenario));
    const { points, accesses } = model;
    return { points, accesses, live: (failure, whole) => liveWith(scenario, model, failure, whole) };
  }
  const model = twice(scenario, () => observeUndisturbed(scenario));
  const { points, accesses } = model;
  return { points, accesses, live: failure => observeWith(scenario, model, failure) };
}

function twice<T extends Pick<Subject, 'points' | 'accesses'>>(scenario: AnyScenario, live: () => T): T {
  return working(scenario.name, () => {
    const model = live();
    sameAgain(scenario, model, live());
    return model;
  });
}
