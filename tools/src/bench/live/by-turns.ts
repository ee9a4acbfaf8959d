/** Several sides of a comparison, one after the other in each round: whatever else the computer does meets all of them. */
import { DifferentResults } from '../compare.js';

/** One run of one side. */
export interface TurnResult {
  /** In any unit: the same for all sides. */
  readonly time: number;
  /** What the sides must agree on. */
  readonly checksum: number | string;
}

/** The times of each side, after a round that warms up. @throws DifferentResults */
export async function byTurns<S extends string>(
  rounds: number,
  sides: readonly S[],
  run: (side: S) => Promise<TurnResult>,
): Promise<number[][]> {
  const times = sides.map((): number[] => []);
  for (let round = -1; round < rounds; round++) {
    let expected: TurnResult['checksum'] | undefined;
    for (const [index, side] of sides.entries()) {
      const { time, checksum } = await run(side);
      expected ??= checksum;
      if (checksum !== expected)
        throw new DifferentResults(`${sides[0]!} and ${side}: checksums ${expected} and ${checksum}`);
      if (round >= 0) times[index]!.push(time);
    }
  }
  return times;
}
