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
