/** Puts the lines of a recording together to operations. */
import { TraceError } from './trace-error.js';
import { excerpt, parseTraceLine, type TraceLine } from './trace-line.js';

/** What was done to the unit, and what happened during it. */
export interface TraceOperation {
  readonly line: TraceLine;
  /** In order, without what belongs to an operation within this one. */
  readonly nested: readonly TraceLine[];
  /** By messages to a device (PR, among `nested`): what the device did to the unit before it came back from them. */
  readonly within: ReadonlyMap<TraceLine, readonly TraceOperation[]>;
}

/** An operation of which not all lines have come. */
interface Begun extends TraceOperation {
  readonly nested: TraceLine[];
  readonly within: Map<TraceLine, TraceOperation[]>;
}

/** Operations, and messages during them, are not deeper within one another than this. */
export const MOST_LEVELS = 64;

/** What lines of more indentation than `depth` belong to: an operation, or a message to a device during it. */
interface Level {
  readonly depth: number;
  readonly operation: Begun;
  readonly message: TraceLine | undefined;
}

export class TraceOperations {
  readonly #file: string;
  /** From the operation that stands on its own to what the last line belongs to. */
  #levels: Level[] = [];

  constructor(file: string) {
    this.#file = file;
  }

  /** The last one that stands on its own. */
  get last(): TraceOperation | undefined {
    return this.#levels[0]?.operation;
  }

  /** Takes a line. Returns the operation that is complete before it, if it begins another one. @throws TraceError */
  add(text: string, number: number): TraceOperation | undefined {
    const depth = text.search(/[^ ]|$/);
    const levels = this.#levels;
    while (levels.length > 0 && levels.at(-1)!.depth >= depth && depth > 0) levels.pop();
    const level = depth === 0 ? undefined : levels.at(-1);
    if (depth > 0 && level === undefined) {
      throw new TraceError(this.#file, number, `expected a line that is not indented before ${excerpt(text)}`);
    }
    if (levels.length > MOST_LEVELS) {
      const problem = `expected no more than ${MOST_LEVELS} operations and messages within one another`;
      throw new TraceError(this.#file, number, `${problem}, found ${excerpt(text)}`);
    }
    const place = level === undefined ? 'alone' : level.message === undefined ? 'nested' : 'answering';
    const line = parseTraceLine(text.slice(depth), number, place);
    if (typeof line === 'string') throw new TraceError(this.#file, number, line);
    if (level !== undefined && level.message === undefined) {
      level.operation.nested.push(line);
      if (line.kind === 'PR') levels.push({ depth, operation: level.operation, message: line });
      return undefined;
    }
    const operation: Begun = { line, nested: [], within: new Map() };
    if (level === undefined) {
      const complete = this.last;
      this.#levels = [{ depth, operation, message: undefined }];
      return complete;
    }
    const { within } = level.operation;
    const before = within.get(level.message!);
    if (before === undefined) within.set(level.message!, [operation]);
    else before.push(operation);
    levels.push({ depth, operation, message: undefined });
    return undefined;
  }
}
