/** One place where the model and the recording differ; both sides in the words of the recording. */
export interface Difference {
  /** Line of the recording, counted from 1. */
  readonly line: number;
  readonly expected: string;
  readonly got: string;
}

export interface ReplayResult {
  readonly file: string;
  /** Inputs that the model got: top-level lines. */
  readonly operations: number;
  /** Answers and effects that were compared. */
  readonly compared: number;
  /** The same by kind of line. */
  readonly comparedByKind: Readonly<Record<string, number>>;
  /** Differences, all of them: none is excused. */
  readonly mismatches: number;
  /** The first of these. */
  readonly differences: readonly Difference[];
  /** By name of the rule that excuses a difference. There is none: the model caches as the recorded unit does. */
  readonly excused: Readonly<Record<string, number>>;
  /** By kind of line: what the model was not given. Nothing, as the model takes every kind of line. */
  readonly skipped: Readonly<Record<string, number>>;
}
