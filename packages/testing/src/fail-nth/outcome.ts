/** What one disturbed life came to. */
import { ConfigError } from '@remora/core';

/** What a step that creates something is said to have answered if it threw as it may. */
export const REFUSED = 'refused';

/** A scenario that cannot be swept: undisturbed, it does not do what it says. */
export class ScenarioError extends Error {
  override readonly name = 'ScenarioError';
}

export interface Outcome {
  /** Name of the point that failed; undefined if it was not reached. */
  readonly struck: string | undefined;
  /** The step in which it failed, and what was told. */
  readonly step: string;
  readonly told: string;
  /** Empty: all is as it should be. */
  readonly violations: readonly string[];
}

/** A person's or the host's refusal to create something, by name: VfioError is of a room that this one does not know. */
export function mayBeThrown(failure: unknown): boolean {
  return failure instanceof ConfigError || (failure instanceof Error && failure.name === 'VfioError');
}

/** An exception, with where it came from. */
export function describe(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  const where = failure.stack?.split('\n').find(line => line.includes('    at '));
  return `${failure.name}: ${failure.message}${where === undefined ? '' : ` (${where.trim()})`}`;
}
