/** A smaller program that still shows what a large one does. */
import type { Program } from './program.js';

/** Leaves out runs of operations, ever shorter ones, for as long as `shows` says that what is left shows it, too. */
export async function shrink(program: Program, shows: (smaller: Program) => Promise<boolean>): Promise<Program> {
  let best = program;
  for (let run = Math.ceil(program.operations.length / 2); run >= 1;) {
    let smaller = false;
    for (let start = 0; start < best.operations.length;) {
      const operations = best.operations.filter((_, i) => i < start || i >= start + run);
      const candidate = { ...best, operations };
      if (await shows(candidate)) {
        best = candidate;
        smaller = true;
      } else start += run;
    }
    if (run > 1) run = Math.ceil(run / 2);
    else if (!smaller) break;
  }
  return best;
}
