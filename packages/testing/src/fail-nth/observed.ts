/**
 * Scenarios whose steps tell what they saw. They need not be repeatable: whatever a failure leads to, the same scenario must work afterwards on
 * the same host, and nothing of the disturbed one may be left there.
 */
import { Leaks } from '@remora/core';
import { firstDifference } from './difference.js';
import { explain } from './explain.js';
import { type Kinds, kindsIn, outside } from './kinds.js';
import { FailurePoints, type PlannedFailure } from './failure-points.js';
import { describe, mayBeThrown, type Outcome, REFUSED, ScenarioError } from './outcome.js';
import { ALL_IS_WELL, type FailurePorts } from './scenario.js';
import { steady, wellFormed, wellFormedSteps, working } from './undisturbed.js';

/** What a step saw: plain data; results are 0 or more, or a negated errno, and `true` where something was reached. */
export type SeenByStep = Readonly<Record<string, unknown>>;

export interface ObservedStep {
  readonly name: string;
  /** It creates something, and may throw a ConfigError or VfioError; then nothing of it is left. */
  readonly creates?: true;
  /** What it does has no way to tell of a failure: what was in force may stay. */
  readonly silent?: true;
  /** An error named GuestError is a guest that cannot go on: the life ends with it. */
  run(): SeenByStep;
}

export interface ObservedLife extends Disposable {
  /** The last one ends it all. */
  readonly steps: readonly ObservedStep[];
}

/** A host on which lives follow each other. */
export interface ObservedWorld extends Disposable {
  begin(): ObservedLife;
  /** What it holds for anybody, JSON-able; compared while nobody lives. Things with a `kind` are also counted after each step. */
  dump(): unknown;
}

export interface ObservedScenario {
  readonly name: string;
  readonly description?: string;
  /** How many points of failure it has at least. */
  readonly minimum?: number;
  createWorld(ports: FailurePorts): ObservedWorld;
}

export interface ObservedModel {
  readonly points: readonly string[];
  readonly accesses: number;
  readonly dump: unknown;
  /** By step. */
  readonly seen: readonly SeenByStep[];
  /** What the host holds before the first step, and after each. */
  readonly kinds: readonly Kinds[];
}

/** An access to a device's registers that the host refuses: reads see all ones, writes are lost, and what the device then does is its business. */
const REGISTER_ACCESSES = new Set(['pread', 'pwrite']);
/** What the host refuses to remove stays until it is asked again, or until the descriptor behind it is closed. */
const REMOVAL = 'IOMMU_DESTROY';
/** What a guest tells that cannot go on. */
const GIVES_UP = 'the guest gives up';

/** @throws ScenarioError if something is left in the end, or a second life differs from the first. */
export function observeUndisturbed(scenario: ObservedScenario): ObservedModel {
  const points = new FailurePoints();
  return Leaks.check(() => {
    const { name } = scenario;
    using world = points.uncounted(() =>
      wellFormed(name, 'createWorld', scenario.createWorld(points), ['begin', 'dump']),
    );
    const dump = points.uncounted(() => world.dump());
    steady(name, { dump }, { dump: points.uncounted(() => world.dump()) });
    const kinds = [kindsIn(dump)];
    const seen = firstLife(name, world, () => points.uncounted(() => kinds.push(kindsIn(world.dump()))));
    const left = firstDifference(
      points.uncounted(() => world.dump()),
      dump,
    );
    if (left !== undefined) throw new ScenarioError(`${name} leaves something: ${left}`);
    const different = firstDifference(
      points.uncounted(() => liveAll(world)),
      seen,
    );
    if (different !== undefined) throw new ScenarioError(`${name} is different each time: ${different}`);
    return { points: points.names, accesses: points.accesses, dump, seen, kinds };
  });
}

/** A life in which `failure` happens, and one after it. */
export function observeWith(scenario: ObservedScenario, model: ObservedModel, failure: PlannedFailure): Outcome {
  const observed = new Observed(model, new FailurePoints(failure));
  observed.live(scenario);
  return observed;
}

/** `after`: each step. */
function firstLife(name: string, world: ObservedWorld, after: () => void): SeenByStep[] {
  using life = wellFormed(name, 'begin', world.begin(), []);
  return wellFormedSteps(name, life.steps).map(step => {
    const seen: unknown = working(`${name}, ${step.name}`, () => step.run());
    if (typeof seen !== 'object' || seen === null) {
      throw new ScenarioError(`${name}, ${step.name}: it sees ${String(seen)}, expected an object`);
    }
    after();
    return seen as SeenByStep;
  });
}

function liveAll(world: ObservedWorld): SeenByStep[] {
  using life = world.begin();
  return life.steps.map(step => step.run());
}

class Observed implements Outcome {
  step = '';
  told = '';
  readonly violations: string[] = [];
  readonly #model: ObservedModel;
  readonly #points: FailurePoints;

  constructor(model: ObservedModel, points: FailurePoints) {
    this.#model = model;
    this.#points = points;
  }

  get struck(): string | undefined {
    return this.#points.struck;
  }

  live(scenario: ObservedScenario): void {
    try {
      Leaks.check(() => {
        using world = this.#points.uncounted(() => scenario.createWorld(this.#points));
        this.#disturbed(world);
        this.#expect(
          this.#points.uncounted(() => world.dump()),
          this.#model.dump,
          'in the end the host holds',
        );
        if (this.violations.length > 0) return;
        const again = this.#points.uncounted(() => liveAll(world));
        this.#expect(again, this.#model.seen, 'the next life sees');
        this.#expect(
          this.#points.uncounted(() => world.dump()),
          this.#model.dump,
          'after the next life the host holds',
        );
      });
    } catch (failure) {
      this.violations.push(`throws ${describe(failure)}`);
    }
    if (this.struck === undefined) this.violations.push('the point is not reached: no two lives are the same');
  }

  #disturbed(world: ObservedWorld): void {
    using life = world.begin();
    for (const [index, step] of life.steps.entries()) {
      const before = this.struck;
      const held = step.creates === true ? this.#points.uncounted(() => world.dump()) : undefined;
      const answer = this.#attempt(step, index);
      if (answer === REFUSED) {
        this.#expect(
          this.#points.uncounted(() => world.dump()),
          held,
          `${step.name}, refused: the host holds`,
        );
      }
      if (this.struck !== before) {
        this.step = step.name;
        this.told = answer;
        if (answer !== REFUSED && answer !== GIVES_UP && this.struck !== REMOVAL) this.#count(world, index);
      }
      if (answer === REFUSED || answer === GIVES_UP || this.violations.length > 0) return;
    }
  }

  /** What comes after the disturbed step may see its consequences; only the step itself is compared. */
  #attempt(step: ObservedStep, index: number): string {
    const before = this.struck;
    try {
      const seen = step.run();
      if (this.struck === before) return ALL_IS_WELL;
      const { told, violation } = explain(seen, this.#model.seen[index]);
      const excused = step.silent === true || REGISTER_ACCESSES.has(this.struck!);
      if (violation !== undefined && !excused) this.violations.push(`${step.name}: ${violation}`);
      return told;
    } catch (failure) {
      if (step.creates === true && mayBeThrown(failure)) return REFUSED;
      if (failure instanceof Error && failure.name === 'GuestError') return GIVES_UP;
      throw failure;
    }
  }

  /** A step of several calls may be done in part: of each kind there is as much as before it or after it, or something between. */
  #count(world: ObservedWorld, index: number): void {
    const { kinds } = this.#model;
    const actual = kindsIn(this.#points.uncounted(() => world.dump()));
    const found = outside(actual, kinds[index]!, kinds[index + 1]!);
    if (found !== undefined) this.violations.push(`after ${this.step} the host holds ${found}`);
  }

  #expect(actual: unknown, expected: unknown, what: string): void {
    const difference = firstDifference(actual, expected);
    if (difference !== undefined) this.violations.push(`${what} ${difference}`);
  }
}
