import type { ExecutionContext } from 'ava';

/** What fuzz programs reached: how many programs saw a thing at least once. */
export class Coverage {
  programs = 0;
  readonly #counts = new Map<string, number>();
  #seen = new Set<string>();

  /** The program that runs now saw `what`. */
  hit(what: string): void {
    this.#seen.add(what);
  }

  /** The program that ran is over. */
  endProgram(): void {
    this.programs++;
    for (const what of this.#seen) this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
    this.#seen = new Set();
  }

  /** Programs that saw `what`. */
  count(what: string): number {
    return this.#counts.get(what) ?? 0;
  }

  /** All that was seen under a prefix, sorted, without the prefix. */
  under(prefix: string): [string, number][] {
    return [...this.#counts]
      .filter(([what]) => what.startsWith(prefix))
      .map(([what, count]): [string, number] => [what.slice(prefix.length), count])
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

/**
 * Requires half of what was measured: a generator or a model that no longer gets anywhere must not pass as one that finds nothing. The seed
 * is fixed, so that the figures are the same on every run.
 */
export function requireMinimums(
  t: ExecutionContext,
  coverage: Coverage,
  measured: Readonly<Record<string, number>>,
): void {
  const share = (what: string): string => `${Math.round((100 * coverage.count(what)) / coverage.programs)} %`;
  t.log(coverage.programs, 'programs,', Object.keys(measured).length, 'things required; TE in', share('TE'));
  for (const [what, figure] of Object.entries(measured)) {
    const count = coverage.count(what);
    const least = Math.ceil(figure / 2);
    t.true(
      count >= least,
      `${what}: in ${count} of ${coverage.programs} programs, at least ${least} wanted (measured: ${figure})`,
    );
  }
}
