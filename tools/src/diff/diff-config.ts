/** Programs of one configuration, run on both sides up to the first difference. */
import { compare, type Difference, type Sides } from './compare.js';
import type { DiffConfig } from './configs.js';
import { Coverage } from './coverage.js';
import { JUSTIFIED, type Justified } from './justified.js';
import type { Program } from './program.js';
import { QemuError } from './qemu-error.js';
import { shrink } from './shrink.js';

/** What came of one configuration. */
export interface DiffResult {
  readonly config: DiffConfig;
  readonly programs: number;
  readonly coverage: Coverage;
  /** The first difference, by the smallest program found. */
  readonly found: { readonly program: Program; readonly difference: Difference } | undefined;
}

export interface DiffSettings {
  /** Default: the reviewed list. */
  readonly justified?: readonly Justified[];
  /** Called after each program. */
  readonly done?: (programs: number) => void;
}

/** Stops at the first difference. @throws QemuError that names the program if QEMU does not survive it. */
export async function diffConfig(
  config: DiffConfig,
  sides: Sides,
  programs: Iterable<Program>,
  { justified = JUSTIFIED, done = () => undefined }: DiffSettings = {},
): Promise<DiffResult> {
  const coverage = new Coverage();
  let count = 0;
  for (const program of programs) {
    const outcome = await compare(program, sides, justified).catch((failure: unknown) => {
      if (!(failure instanceof QemuError)) throw failure;
      throw new QemuError(`${config.name}, seed ${program.seed}: ${failure.message}`, { cause: program });
    });
    count++;
    if (outcome.difference !== undefined) {
      const { text } = outcome.difference.line;
      // Only the same look at the same thing: a smaller program could differ for another reason.
      const shows = async (each: Program): Promise<boolean> =>
        (await compare(each, sides, justified)).difference?.line.text === text;
      const small = await shrink(program, shows);
      const { difference } = await compare(small, sides, justified);
      const found =
        difference === undefined ? { program, difference: outcome.difference } : { program: small, difference };
      return { config, programs: count, coverage, found };
    }
    coverage.add(program, outcome);
    done(count);
  }
  return { config, programs: count, coverage, found: undefined };
}
