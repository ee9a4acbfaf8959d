/** One life of a scenario, undisturbed or with one failure in it, judged step by step. */
import { Leaks } from '@remora/core';
import { firstDifference } from './difference.js';
import { FailurePoints, type PlannedFailure } from './failure-points.js';
import { describe, mayBeThrown, type Outcome, REFUSED, ScenarioError } from './outcome.js';
import { ALL_IS_WELL, type FailNthLife, type FailNthScenario, type FailNthStep, GOES_WITHOUT } from './scenario.js';
import { steady, wellFormed, wellFormedSteps, working } from './undisturbed.js';

interface State {
  readonly dump: unknown;
  readonly look: string;
}

/** The undisturbed life: what the others are compared with. */
export interface ModelLife {
  /** Before the first step. */
  readonly before: State;
  readonly leftovers: unknown;
  /** After each step. */
  readonly after: readonly State[];
  /** Names of the points at which something can fail. */
  readonly points: readonly string[];
  readonly accesses: number;
}

/** Steps that are taken after the one with the failure, before the last: they show that life goes on. */
const FOLLOWING = 1;

/** @throws ScenarioError if a step does not answer that all is well, or something is left in the end. */
export function liveUndisturbed(scenario: FailNthScenario): ModelLife {
  const points = new FailurePoints();
  return Leaks.check(() => {
    using life = points.uncounted(() => wellFormed(scenario.name, 'begin', scenario.begin(points), ['dump', 'look']));
    const before = stateOf(life, points);
    steady(scenario.name, before, stateOf(life, points));
    const leftovers = leftoversOf(life, points);
    const after: State[] = [];
    for (const step of wellFormedSteps(scenario.name, life.steps)) {
      const answer = working(`${scenario.name}, ${step.name}`, () => step.run());
      if (answer !== ALL_IS_WELL) {
        throw new ScenarioError(
          `${scenario.name}, ${step.name}: nothing failed, and it answers "${String(answer)}", expected "${ALL_IS_WELL}"`,
        );
      }
      after.push(stateOf(life, points));
    }
    const left = firstDifference(leftoversOf(life, points), leftovers);
    if (left !== undefined) throw new ScenarioError(`${scenario.name} leaves something: ${left}`);
    return { before, leftovers, after, points: points.names, accesses: points.accesses };
  });
}

/** A life in which `failure` happens. `whole`: all steps are taken after it; otherwise the next one, and the last. */
export function liveWith(scenario: FailNthScenario, model: ModelLife, failure: PlannedFailure, whole = false): Outcome {
  const run = new DisturbedLife(model, new FailurePoints(failure));
  run.live(scenario, whole);
  return run;
}

class DisturbedLife implements Outcome {
  step = '';
  told = '';
  readonly violations: string[] = [];
  readonly #model: ModelLife;
  readonly #points: FailurePoints;

  constructor(model: ModelLife, points: FailurePoints) {
    this.#model = model;
    this.#points = points;
  }

  get struck(): string | undefined {
    return this.#points.struck;
  }

  live(scenario: FailNthScenario, whole: boolean): void {
    try {
      Leaks.check(() => {
        using life = this.#points.uncounted(() => scenario.begin(this.#points));
        this.#liveThrough(life, whole);
      });
    } catch (failure) {
      this.#violation(`throws ${describe(failure)}`);
    }
    if (this.struck === undefined) this.#violation('the point is not reached: no two lives are the same');
  }

  #liveThrough(life: FailNthLife, whole: boolean): void {
    const last = life.steps.length - 1;
    let disturbedAt = last;
    for (const [index, step] of life.steps.entries()) {
      if (!whole && index > disturbedAt + FOLLOWING && index < last) continue;
      const answer = this.#attempt(step, () => step.run());
      if (this.struck !== undefined && this.step === '') {
        disturbedAt = index;
        this.step = step.name;
        this.told = answer;
        this.#judge(life, step, index);
      } else if (answer !== ALL_IS_WELL) {
        this.#violation(`${step.name}, undisturbed: ${answer}`);
      }
      // What cannot go on as it should tells nothing new.
      if (this.violations.length > 0) return;
      const skipped = !whole && index === last && disturbedAt + FOLLOWING < last - 1;
      if (!skipped) this.#expect(life, this.#model.after[index]!, `after ${step.name}`);
      if (this.violations.length > 0) return;
    }
    const left = firstDifference(leftoversOf(life, this.#points), this.#model.leftovers);
    if (left !== undefined) this.#violation(`in the end the host holds ${left}`);
  }

  /** What a failure may lead to: nothing; what was told, with the state of before; or a way without. Another try succeeds. */
  #judge(life: FailNthLife, step: FailNthStep, index: number): void {
    const { told } = this;
    const silent = step.tells === undefined && step.creates === undefined;
    if (told === ALL_IS_WELL) {
      if (!silent) return;
    } else if (told === REFUSED || told === step.tells) {
      if (step.partial === undefined) {
        this.#expect(life, this.#model.after[index - 1] ?? this.#model.before, `${step.name}, ${told}`);
      }
    } else if (told !== GOES_WITHOUT || step.creates === undefined) {
      this.#violation(`${step.name} tells ${told}`);
    }
    if (this.violations.length > 0) return;
    const again = this.#attempt(step, () => (step.retry === undefined ? step.run() : step.retry()));
    if (again !== ALL_IS_WELL) this.#violation(`${step.name}, tried again: ${again}`);
  }

  #attempt(step: FailNthStep, act: () => string): string {
    try {
      return act();
    } catch (failure) {
      if (step.creates === true && mayBeThrown(failure)) return REFUSED;
      throw failure;
    }
  }

  #expect(life: FailNthLife, { dump, look }: State, when: string): void {
    const difference = firstDifference(
      this.#points.uncounted(() => life.dump()),
      dump,
    );
    if (difference !== undefined) this.#violation(`${when}: the host holds ${difference}`);
    const seen = this.#points.uncounted(() => life.look());
    if (seen !== look) this.#violation(`${when}: sees ${JSON.stringify(seen)}, expected ${JSON.stringify(look)}`);
  }

  #violation(what: string): void {
    this.violations.push(what);
  }
}

function stateOf(life: FailNthLife, points: FailurePoints): State {
  return points.uncounted(() => ({ dump: life.dump(), look: life.look() }));
}

function leftoversOf(life: FailNthLife, points: FailurePoints): unknown {
  return points.uncounted(() => (life.leftovers === undefined ? life.dump() : life.leftovers()));
}
