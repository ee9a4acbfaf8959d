/** A run of a scenario, once without interruption, and again from any point of it. */
import { openState, restoreMachine, saveState, type Machine, type StateFile } from '@remora/machine';
import { PHYSICAL_VTD, physicalVtd, plugins } from '@remora/machines';
import { perform, Recording, type Operation } from './operations.js';
import { outcomeOf, type Outcome } from './outcome.js';
import type { Scenario } from './scenarios.js';

export interface StraightRun {
  readonly operations: readonly Operation[];
  /** What was seen of each. */
  readonly seen: readonly string[];
  readonly outcome: Outcome;
  /** The state file at the end. */
  readonly last: Uint8Array;
}

/** The machine saved before operation `at`. */
export interface Point {
  readonly at: number;
  readonly file: Uint8Array;
}

export interface Rest {
  /** Index of the first operation of which something else was seen; -1 if there is none. */
  readonly differsAt: number;
  readonly outcome: Outcome;
  readonly last: Uint8Array;
}

/** Lets the scenario's guest play on a machine of its own. */
export function runStraight(scenario: Scenario, seed: number): StraightRun {
  const machine = scenario.create(seed);
  try {
    machine.start();
    const recording = new Recording(machine);
    scenario.play(recording, seed);
    const { operations, seen } = recording;
    return { operations, seen, outcome: outcomeOf(machine), last: saveState(machine) };
  } finally {
    close(machine);
  }
}

/** The same again on another machine, which is saved at `points` (ascending). @throws Error if it does not go as before. */
export function saveAt(scenario: Scenario, seed: number, run: StraightRun, points: readonly number[]): Point[] {
  const machine = scenario.create(seed);
  try {
    machine.start();
    const saved: Point[] = [];
    for (const [at, operation] of run.operations.entries()) {
      if (points.includes(at)) saved.push({ at, file: saveState(machine) });
      const seen = perform(machine, operation);
      if (seen !== run.seen[at])
        throw new Error(`without any restore, operation ${at} (${operation.op}) shows ${seen}, not ${run.seen[at]}`);
    }
    return saved;
  } finally {
    close(machine);
  }
}

/** Restores a machine from a file alone and does the rest of a run. `host`: the seed of the host, unless it is that of before. */
export function goOn(file: Uint8Array, run: Pick<StraightRun, 'operations' | 'seen'>, at: number, host?: number): Rest {
  return goOnFrom(openState(file), run, at, host);
}

/** The same, from a file that was opened. */
export function goOnFrom(
  file: StateFile,
  run: Pick<StraightRun, 'operations' | 'seen'>,
  at: number,
  host?: number,
): Rest {
  const { machine } = restoreMachine(file, {
    plugins,
    iommus: { [PHYSICAL_VTD]: physicalVtd },
    ...(host === undefined ? {} : { seed: host }),
  });
  try {
    let differsAt = -1;
    for (let index = at; index < run.operations.length && differsAt < 0; index++) {
      if (perform(machine, run.operations[index]!) !== run.seen[index]) differsAt = index;
    }
    return { differsAt, outcome: outcomeOf(machine), last: saveState(machine) };
  } finally {
    close(machine);
  }
}

export function close(machine: Machine): void {
  if (machine.host === undefined) machine[Symbol.dispose]();
  else machine.host[Symbol.dispose]();
}
