import { MOST_LEVELS } from '../../replay/trace-operations.js';

/**
 * When an operation may come: by itself only; during another one, too, because it is a part of it; or while a device or a host is told
 * something, because it is what that does.
 */
export type Coming = 'alone' | 'part' | 'answer';

/** The lines of a recording, as operations come and end. */
export class Journal {
  readonly #write: (line: string) => void;
  /** Of the operation that stands on its own: its own line, and those of what happens during it. */
  #lines: string[] = [];
  #depth = 0;
  /** Where the line of the innermost operation is. */
  #at = 0;
  /** A device or a host is told something, and may do something itself before it comes back. */
  #telling = false;
  #problem: string | undefined;
  #ended = false;

  /** `write` takes the lines, one after the other. */
  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** Why the recording is not complete; undefined if it is, so far. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** No operation is under way. */
  get idle(): boolean {
    return this.#depth === 0;
  }

  /** Nothing is written any more but `line`, which depends on whether there was a problem. */
  end(line: (problem: string | undefined) => string): void {
    if (!this.#ended) this.#write(line(this.#problem));
    this.#ended = true;
  }

  /** An operation, whose line comes first although its result is known last. */
  during<T>(coming: Coming, perform: () => T, text: (result: T) => string): T {
    if (this.#depth > 0 && coming !== (this.#telling ? 'answer' : 'part'))
      this.spoil('an operation came during another one');
    if (this.#depth > MOST_LEVELS - 2) this.spoil('operations came too deep within one another');
    if (this.#over) return perform();
    const outer = [this.#at, this.#telling] as const;
    this.#telling = false;
    try {
      return this.#around(perform, text);
    } catch (failure) {
      this.spoil(`the unit failed: ${String(failure)}`);
      throw failure;
    } finally {
      [this.#at, this.#telling] = outer;
      if (this.#depth === 0) this.#flush();
    }
  }

  /** Something that the unit does during an operation. */
  effect(text: string): void {
    if (this.#over) return;
    if (this.#depth === 0) this.spoil('the unit did something by itself');
    else this.#lines.push(`${' '.repeat(this.#depth)}${text}`);
  }

  /**
   * What the unit tells a device or a host, during an operation: whoever is told may do operations before it comes back. Without a text
   * it was nobody.
   */
  telling<T>(tell: () => T, text: (result: T) => string | undefined): T {
    if (this.#depth === 0) this.spoil('the unit did something by itself');
    if (this.#over) return tell();
    const outer = this.#telling;
    this.#telling = true;
    try {
      return this.#around(tell, text);
    } finally {
      this.#telling = outer;
    }
  }

  /** The last line says more. */
  amend(text: string): void {
    if (this.#lines.length > 0) this.#lines[this.#lines.length - 1] += text;
  }

  /** The innermost operation has done nothing that begins so. */
  withdraw(start: string): void {
    this.#lines = this.#lines.filter((line, index) => index <= this.#at || !line.trimStart().startsWith(start));
  }

  /** What comes from here on could not be replayed. */
  spoil(problem: string): void {
    this.#problem ??= problem;
  }

  get #over(): boolean {
    return this.#problem !== undefined || this.#ended;
  }

  #around<T>(perform: () => T, text: (result: T) => string | undefined): T {
    const indent = ' '.repeat(this.#depth++);
    const at = this.#lines.push('') - 1;
    if (!this.#telling) this.#at = at;
    try {
      const result = perform();
      const line = text(result);
      if (line === undefined) this.#lines.splice(at, 1);
      else this.#lines[at] = `${indent}${line}`;
      return result;
    } finally {
      this.#depth--;
    }
  }

  #flush(): void {
    if (this.#problem === undefined) for (const line of this.#lines) this.#write(line);
    this.#lines = [];
  }
}
