/** A recording that cannot be replayed: says which file, where in it, and what was expected. One line. */
export class TraceError extends Error {
  override readonly name = 'TraceError';
  readonly file: string;
  /** Counted from 1; 0 if the whole file is meant. */
  readonly line: number;

  constructor(file: string, line: number, problem: string, options?: ErrorOptions) {
    super(line === 0 ? `${file}: ${problem}` : `${file}:${line}: ${problem}`, options);
    this.file = file;
    this.line = line;
  }
}
