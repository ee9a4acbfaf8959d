/** What the reference leaves open, tried every way: an attempt runs once for each sequence of choices that it can make. */
const MOST_WAYS = 20_000;

export class Choices {
  /** What was taken at each choice so far, and of how many. */
  readonly #taken: { option: number; readonly of: number }[] = [];
  #at = 0;

  pick<T>(options: readonly T[]): T {
    if (options.length === 1) return options[0]!;
    if (this.#at === this.#taken.length) this.#taken.push({ option: 0, of: options.length });
    return options[this.#taken[this.#at++]!.option]!;
  }

  /** Goes on to the next sequence; false if all have been tried. */
  next(): boolean {
    this.#at = 0;
    for (;;) {
      const last = this.#taken.at(-1);
      if (last === undefined) return false;
      if (++last.option < last.of) return true;
      this.#taken.pop();
    }
  }
}

/** What comes of each way; that of the last options of all comes last. */
export function everyWay<T>(attempt: (choices: Choices) => T): T[] {
  const choices = new Choices();
  const found: T[] = [];
  do {
    found.push(attempt(choices));
    if (found.length > MOST_WAYS) throw new Error('too many ways');
  } while (choices.next());
  return found;
}
