/** One place where the model and the recording differ; both sides in the words of the recording. */
export interface Difference {
  /** Line of the recording, counted from 1. */
  readonly line: number;
  readonly expected: string;
  readonly got: string;
}

/**
 * A difference that is known and accepted: by name, for a reason, and counted. There is none for recordings of Linux, and none at
 * all unless the caller brings it.
 */
export interface ExcuseRule {
  readonly name: string;
  /** Why the model is right to differ, with the section of the specification. */
  readonly reason: string;
  excuses(difference: Difference): boolean;
}

export interface ReplayResult {
  readonly file: string;
  /** Inputs that the model got: top-level lines. */
  readonly operations: number;
  /** Answers and effects that were compared. */
  readonly compared: number;
  /** The same by kind of line. */
  readonly comparedByKind: Readonly<Record<string, number>>;
  /** Differences that no rule excused. */
  readonly mismatches: number;
  /** The first of these. */
  readonly differences: readonly Difference[];
  /** By name of the rule. */
  readonly excused: Readonly<Record<string, number>>;
  /** By kind of line: what the model was not given. Nothing, as the model takes every kind of line. */
  readonly skipped: Readonly<Record<string, number>>;
}
