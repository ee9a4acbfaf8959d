// A machine that was saved at a random point, and goes on after it from the file alone, ends as the one that was not.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setImmediate } from 'node:timers/promises';
import { Random } from '@remora/bits';
import test from 'ava';
import { node } from '../rig/processes.js';
import type { Outcome } from './outcome.js';
import { goOn, runStraight, saveAt, type StraightRun } from './runs.js';
import { SCENARIOS, type Scenario } from './scenarios.js';

const SEEDS = [1, 2, 3];
const POINTS = 4;
const ALL_POINTS = SCENARIOS.length * SEEDS.length * POINTS;
/** Seed of a host that is another one than that of before. */
const ELSEWHERE = 77;
const NEW_PROCESSES = [
  'legacy, interrupt remapping, three fault records',
  'one engine of a host',
  'as QEMU 10.2, legacy',
];
const CONTINUE = fileURLToPath(new URL('continue.js', import.meta.url));

function pointsOf(run: StraightRun, seed: number): number[] {
  const random = new Random(1000 + seed);
  const points = new Set<number>();
  while (points.size < POINTS) points.add(random.below(run.operations.length));
  return [...points].sort((a, b) => a - b);
}

function named(name: string): Scenario {
  return SCENARIOS.find(scenario => scenario.name === name)!;
}

test('there are 200 points at least', t => {
  t.true(ALL_POINTS >= 200, `${ALL_POINTS}`);
});

for (const scenario of SCENARIOS) {
  test.serial(`with and without save and restore: ${scenario.name}`, async t => {
    for (const seed of SEEDS) {
      // The test runner hears of what is done meanwhile.
      await setImmediate();
      const run = runStraight(scenario, seed);
      for (const { at, file } of saveAt(scenario, seed, run, pointsOf(run, seed))) {
        const where = `seed ${seed}, before operation ${at} of ${run.operations.length}`;
        const rest = goOn(file, run, at);
        t.is(rest.differsAt, -1, `${where}: something else was seen`);
        t.deepEqual(rest.outcome, run.outcome, where);
        t.is(Buffer.compare(rest.last, run.last), 0, `${where}: the state at the end is another one`);
      }
    }
  });
}

test.serial('on a host where frames, addresses and free PASIDs are others, the guest sees nothing of it', t => {
  for (const scenario of SCENARIOS.filter(({ name }) => name.includes('host') || name.includes('container'))) {
    const run = runStraight(scenario, 4);
    for (const { at, file } of saveAt(scenario, 4, run, pointsOf(run, 4))) {
      const { differsAt, outcome } = goOn(file, run, at, ELSEWHERE);
      t.is(differsAt, -1, `${scenario.name}, operation ${at}`);
      t.deepEqual(outcome, run.outcome, `${scenario.name}, operation ${at}`);
    }
  }
});

test.serial('in a new process', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'remora-state-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  let processes = 0;
  for (const name of NEW_PROCESSES) {
    const run = runStraight(named(name), 5);
    const trace = join(folder, `${processes}.json`);
    await writeFile(trace, JSON.stringify({ operations: run.operations, seen: run.seen }));
    for (const { at, file } of saveAt(named(name), 5, run, pointsOf(run, 5).slice(0, 3))) {
      const state = join(folder, `${processes}-${at}.rms`);
      await writeFile(state, file);
      const { exitCode, stdout, stderr } = await node(CONTINUE, state, trace, String(at));
      t.is(exitCode, 0, stderr);
      const there = JSON.parse(stdout) as { differsAt: number; outcome: Outcome };
      t.is(there.differsAt, -1, `${name}, operation ${at}`);
      t.deepEqual(there.outcome, JSON.parse(JSON.stringify(run.outcome)), `${name}, operation ${at}`);
      processes++;
    }
  }
  t.is(processes, 9);
});
