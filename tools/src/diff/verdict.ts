/** What is wrong with a run besides differences: quotas that were missed, and excuses that are too many or not needed. */
import { CONFIGS } from './configs.js';
import type { DiffResult } from './diff-config.js';
import { type Justified, MOST_JUSTIFIED, MOST_JUSTIFIED_SHARE } from './justified.js';
import { missedQuotas, QUOTA_PROGRAMS, QUOTAS } from './quotas.js';

export interface Verdict {
  /** Each makes the run fail. */
  readonly failures: readonly string[];
  /** Quotas that were missed by too few programs to bind. */
  readonly told: readonly string[];
}

/** `justified`: the entries that apply to this QEMU. */
export function verdict(results: readonly DiffResult[], justified: readonly Justified[]): Verdict {
  const failures: string[] = [];
  const told: string[] = [];
  for (const { config, programs, coverage, found } of results) {
    // What comes after a difference is not known.
    if (found !== undefined) continue;
    const missed = missedQuotas(QUOTAS[config.name]!, coverage).map(each => `${config.name}: ${each}`);
    (programs < QUOTA_PROGRAMS ? told : failures).push(...missed);
  }
  if (justified.length > MOST_JUSTIFIED)
    failures.push(`${justified.length} justified differences are listed; at most ${MOST_JUSTIFIED} may be`);
  const operations = results.reduce((sum, { coverage }) => sum + coverage.operations, 0);
  const hits = new Map<string, number>();
  for (const { coverage } of results)
    for (const [id, count] of coverage.justified) hits.set(id, (hits.get(id) ?? 0) + count);
  const share = [...hits.values()].reduce((sum, count) => sum + count, 0) / Math.max(operations, 1);
  if (share >= MOST_JUSTIFIED_SHARE)
    failures.push(
      `justified differences are ${(share * 100).toFixed(1)} % of the operations; they must stay below ${MOST_JUSTIFIED_SHARE * 100} %`,
    );
  const full =
    results.length === CONFIGS.length &&
    results.every(({ programs, found }) => programs >= QUOTA_PROGRAMS && found === undefined);
  if (full)
    for (const { id } of justified)
      if (!hits.has(id)) failures.push(`the justified difference "${id}" was not met: take it off the list`);
  return { failures, told };
}
