/** An undisturbed life has to work, and to be what its type says: JavaScript lets anything through. Every message is one line. */
import { firstDifference } from './difference.js';
import { describe, mayBeThrown, ScenarioError } from './outcome.js';
import type { AnyScenario } from './subject.js';

/** What `maker` of a scenario returned. @throws ScenarioError unless it is disposable and has `methods`. */
export function wellFormed<T extends Disposable>(
  scenario: string,
  maker: string,
  made: T,
  methods: readonly string[],
): T {
  const value: unknown = made;
  const problem = (what: string): ScenarioError => new ScenarioError(`${scenario}: ${maker} returns ${what}`);
  if (value instanceof Promise) throw problem('a promise; lives are not asynchronous');
  if (typeof value !== 'object' || value === null) throw problem(`${String(value)}, expected an object`);
  const members = value as Record<PropertyKey, unknown>;
  for (const method of methods) {
    if (typeof members[method] !== 'function') throw problem(`an object without ${method}()`);
  }
  if (typeof members[Symbol.dispose] !== 'function') throw problem('an object without [Symbol.dispose]()');
  return made;
}

/** @throws ScenarioError unless there are some, each with a name and a function `run`. */
export function wellFormedSteps<T>(scenario: string, steps: readonly T[]): readonly T[] {
  const list: unknown = steps;
  if (!Array.isArray(list) || list.length === 0) throw new ScenarioError(`${scenario}: its life has no steps`);
  for (const [index, step] of (list as unknown[]).entries()) {
    const { name, run } = (step ?? {}) as Record<string, unknown>;
    if (typeof name === 'string' && typeof run === 'function') continue;
    throw new ScenarioError(`${scenario}: step ${index} of its life is not { name, run }`);
  }
  return steps;
}

/** @throws ScenarioError for whatever goes wrong in `act`. */
export function working<T>(what: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    if (cause instanceof ScenarioError) throw cause;
    throw new ScenarioError(`${what}: ${reason(cause)}`, { cause });
  }
}

/** @throws ScenarioError unless there is something to fail, and a second undisturbed life is the same: it asks for the same in the same order. */
export function sameAgain(scenario: AnyScenario, first: Asked, second: Asked): void {
  const { name } = scenario;
  if (first.points.length + first.accesses === 0) {
    throw new ScenarioError(`${name} asks nothing of its host; do its system calls go through ports.syscalls()?`);
  }
  const at = first.points.findIndex((point, index) => point !== second.points[index]);
  const different = (what: string): ScenarioError => new ScenarioError(`${name} is different each time: ${what}`);
  if (at >= 0) throw different(`point ${at} is ${first.points[at]}, then ${second.points[at] ?? 'nothing'}`);
  if (first.points.length !== second.points.length) {
    throw different(`point ${first.points.length} is nothing, then ${second.points[first.points.length]}`);
  }
  if (first.accesses !== second.accesses) {
    throw different(`${first.accesses} memory accesses, then ${second.accesses}`);
  }
  steady(name, first, second);
}

/** @throws ScenarioError if two things differ that a scenario said of the same, or of two lives in which nothing failed. */
export function steady(name: string, first: unknown, second: unknown): void {
  const difference = firstDifference(second, first);
  if (difference !== undefined) throw new ScenarioError(`${name} is different each time: ${difference}`);
}

/** What a life asked of its host. */
interface Asked {
  readonly points: readonly string[];
  readonly accesses: number;
}

/** What a person reads of an exception: what was refused; otherwise, with its class and place, what was thrown. */
function reason(cause: unknown): string {
  if (!(cause instanceof Error)) return `throws ${String(cause)}`;
  const [what = '', which = ''] = cause.message.split('\n', 2);
  if (which !== '') return `${what} ${which.trim()}`;
  return mayBeThrown(cause) ? what : `throws ${describe(cause)}`;
}
