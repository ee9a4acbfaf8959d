/** Whether what a disturbed step saw can be the consequence of a failure: somebody was told, or something did not get through. */
import { errnoName } from '@remora/core';
import { firstDifference } from './difference.js';
import { ALL_IS_WELL } from './scenario.js';

/** What `explain` finds. */
export interface Explanation {
  readonly told: string;
  readonly violation?: string;
}

interface Findings {
  /** Results that are negated errnos here and were none. */
  readonly errnos: Set<string>;
  /** Something was reached that must not be. */
  through: string | undefined;
  /** Something was not reached that should be, or is not there. */
  lost: boolean;
}

/**
 * Compares with what was seen undisturbed. A step that differs must tell of an errno, or have lost something; and unless it tells of one, nothing
 * may get through that did not.
 */
export function explain(actual: unknown, expected: unknown): Explanation {
  const difference = firstDifference(actual, expected);
  if (difference === undefined) return { told: ALL_IS_WELL };
  const found: Findings = { errnos: new Set(), through: undefined, lost: false };
  compare(actual, expected, '', found);
  if (found.errnos.size > 0) return { told: [...found.errnos].join(', ') };
  if (found.through !== undefined) return { told: 'nothing', violation: `gets through: ${found.through}` };
  if (found.lost) return { told: 'does not get through' };
  return { told: 'nothing', violation: `differs, and nobody is told: ${difference}` };
}

function compare(actual: unknown, expected: unknown, path: string, found: Findings): void {
  if (typeof actual === 'number' && actual < 0 && actual !== expected) found.errnos.add(errnoName(actual));
  else if (actual === true && expected === false) found.through ??= path;
  else if ((actual === false && expected === true) || (actual === undefined && expected !== undefined))
    found.lost = true;
  else if (typeof actual === 'object' && actual !== null) {
    const other = (typeof expected === 'object' && expected !== null ? expected : {}) as Record<string, unknown>;
    const mine = actual as Record<string, unknown>;
    for (const key of new Set([...Object.keys(mine), ...Object.keys(other)])) {
      compare(mine[key], other[key], `${path}.${key}`, found);
    }
  }
}
