/** Replies compared line by line. */
import { compile } from './compile.js';
import { JUSTIFIED, type Justified, justification } from './justified.js';
import type { Peer } from './peers.js';
import type { Line, Program } from './program.js';

export interface Difference {
  readonly line: Line;
  readonly ours: string;
  readonly theirs: string;
}

export interface Outcome {
  readonly lines: readonly Line[];
  readonly ours: readonly string[];
  readonly theirs: readonly string[];
  /** The first one. */
  readonly difference: Difference | undefined;
  /** How often each justified difference was met before. */
  readonly justified: ReadonlyMap<string, number>;
}

export interface Sides {
  readonly ours: Peer;
  readonly theirs: Peer;
}

/** Runs a program on both sides, each reset before. */
export async function compare(
  program: Program,
  { ours, theirs }: Sides,
  list: readonly Justified[] = JUSTIFIED,
): Promise<Outcome> {
  const lines = compile(program);
  const [a, b] = await Promise.all(
    [ours, theirs].map(async peer => {
      await peer.reset();
      return peer.run(lines);
    }),
  );
  const justified = new Map<string, number>();
  const at = lines.findIndex((line, i) => {
    if (a![i] === b![i]) return false;
    const reason = justification(list, line, a![i]!, b![i]!);
    if (reason === undefined) return true;
    justified.set(reason.id, (justified.get(reason.id) ?? 0) + 1);
    return false;
  });
  const difference = at < 0 ? undefined : { line: lines[at]!, ours: a![at]!, theirs: b![at]! };
  return { lines, ours: a!, theirs: b!, difference, justified };
}
