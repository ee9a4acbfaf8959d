// Whatever is in a state file has to be there: without it, some run goes on differently.
import { setImmediate } from 'node:timers/promises';
import { Random } from '@remora/bits';
import { openState, saveState, type StateFile } from '@remora/machine';
import test from 'ava';
import type { StateSection, StateValue } from '@remora/core';
import { close, goOnFrom, runStraight, saveAt, type StraightRun } from './runs.js';
import { SCENARIOS, type Scenario } from './scenarios.js';

/** One value in a state file, by the names on the way to it; what is in lists counts as one. */
type Path = readonly string[];

interface SavedPoint {
  readonly scenario: Scenario;
  readonly run: StraightRun;
  readonly at: number;
  readonly file: StateFile;
  /** The state of a machine of the same shape that was only reset. */
  readonly fresh: StateFile;
}

const POINTS = 10;
/** Where what is under way is gone soon. */
const MORE_POINTS = 40;
const SEEDS = [6, 7, 8];
/** On a busy machine. */
const TIMEOUT_MS = 300_000;

/** What no run here misses, and why it is kept all the same. */
const UNNOTICED: Readonly<Record<string, string>> = {
  'machine.clock.timers': 'timers that come later are only counted: with it, the same state gives the same file',
  'intel-iommu.state.unit.queue.waiting': 'counts when an invalidation times out at once; see the unit test',
};

test('every value that is saved is missed by some run if it is as after a reset', async t => {
  t.timeout(TIMEOUT_MS);
  const points = SCENARIOS.filter(({ name }) => !name.startsWith('fuzz')).flatMap(pointsOf);
  const paths = new Map<string, { readonly point: SavedPoint; readonly path: Path }[]>();
  for (const point of points) {
    for (const path of changedPaths(point)) {
      const key = keyOf(path);
      paths.set(key, [...(paths.get(key) ?? []), { point, path }]);
    }
  }
  const unnoticed: string[] = [];
  for (const [key, places] of paths) {
    await setImmediate();
    if (!places.some(({ point, path }) => isMissed(point, path))) unnoticed.push(key);
  }
  t.deepEqual(
    unnoticed.filter(key => UNNOTICED[key] === undefined),
    [],
  );
  t.log(`${paths.size} kinds of values, ${points.length} points`);
  t.true(paths.size > 30, `${paths.size}`);
});

function pointsOf(scenario: Scenario): SavedPoint[] {
  const machine = scenario.create(SEEDS[0]!);
  machine.start();
  const fresh = openState(saveState(machine));
  close(machine);
  return SEEDS.flatMap(seed => {
    const run = runStraight(scenario, seed);
    const random = new Random(seed);
    const at = new Set(
      Array.from({ length: scenario.name.includes('device TLB') ? MORE_POINTS : POINTS }, () =>
        random.below(run.operations.length),
      ),
    );
    return saveAt(scenario, seed, run, [...at]).map(point => ({
      scenario,
      run,
      at: point.at,
      file: openState(point.file),
      fresh,
    }));
  });
}

/** Whether the rest of the run goes differently, or cannot go on at all, with the value as after a reset. */
function isMissed({ run, at, file, fresh }: SavedPoint, path: Path): boolean {
  const sections = replaced(file.sections, path, valueAt(fresh.sections, path));
  try {
    const { differsAt, outcome } = goOnFrom({ ...file, sections }, run, at);
    return differsAt >= 0 || JSON.stringify(outcome) !== JSON.stringify(run.outcome);
  } catch {
    return true;
  }
}

/** The values that are not as after a reset. */
function changedPaths({ file, fresh }: SavedPoint): Path[] {
  return leaves(file.sections).filter(
    path => text(valueAt(file.sections, path)) !== text(valueAt(fresh.sections, path)),
  );
}

function leaves(section: StateSection, above: Path = []): Path[] {
  return [...section.fields].flatMap(([name, value]) => {
    const path = [...above, name];
    return isSection(value) && name !== 'command' ? leaves(value, path) : [path];
  });
}

function valueAt(section: StateSection, [name = '', ...rest]: Path): StateValue | undefined {
  const value = section.fields.get(name);
  if (rest.length === 0 || value === undefined) return value;
  return isSection(value) ? valueAt(value, rest) : undefined;
}

/** A copy with another value at `path`; without it if there is none. */
function replaced(section: StateSection, [name = '', ...rest]: Path, value: StateValue | undefined): StateSection {
  const fields = new Map(section.fields);
  if (rest.length > 0) fields.set(name, replaced(fields.get(name) as StateSection, rest, value));
  else if (value === undefined) fields.delete(name);
  else fields.set(name, value);
  return { ...section, fields };
}

function keyOf(path: Path): string {
  const [top, devices, id = '', ...rest] = path;
  if (top !== 'machine' || devices !== 'devices') return path.join('.');
  const kind = id.startsWith('dma-engine') || id === 'engine' ? 'dma-engine' : id.replace(/[.\d]+$/, '');
  return [kind, ...rest].join('.');
}

function isSection(value: StateValue): value is StateSection {
  return typeof value === 'object' && 'version' in value;
}

function text(value: StateValue | undefined): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner instanceof Map ? [...(inner as Map<string, unknown>)] : inner,
  );
}
