/**
 * Each host call of a machine's life fails once. What the guest is told is what the architecture has for it; what was in force before
 * is in force; trying again works; and nothing is left on the host in the end.
 */
import { isDeepStrictEqual } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { Leaks } from '@remora/core';
import type { Placement } from '../rig/rig.js';
import { Life, type Told } from './life.js';

interface Arrangement {
  readonly title: string;
  readonly functions: readonly Placement[];
  /** So many calls a life has at least. */
  readonly points: number;
  /** Several containers are told one after the other: those before the one that fails keep what they did. */
  readonly stepwise?: true;
  /** Steps in which the guest is told something else than elsewhere. */
  readonly tells?: Readonly<Record<string, Told>>;
}

const arrangements: readonly Arrangement[] = [
  { title: 'one device', functions: [{ addr: '03.0' }], points: 100 },
  { title: 'two devices in one container', functions: [{ addr: '03.0' }, { addr: '04.0' }], points: 110 },
  {
    title: 'two devices in two containers',
    functions: [
      { addr: '03.0', container: 'new' },
      { addr: '04.0', container: 'new' },
    ],
    points: 140,
    stepwise: true,
    // The next container is asked [A10].
    tells: {
      allocate: 'all is well',
      'allocate again': 'all is well',
      'allocate after the reset': 'all is well',
    },
  },
];

/** Without these a device, or nesting, can still be had; what is not bound at once is bound at the next sync. */
const DISPENSABLE = new Set([
  'VFIO_CHECK_EXTENSION',
  'VFIO_DEVICE_GET_REGION_INFO',
  'VFIO_DEVICE_GET_IRQ_INFO',
  'VFIO_DEVICE_RESET',
  'VFIO_IOMMU_BIND',
]);

interface Run {
  /** What the host held before the first step and after each; where a call fails, only what was compared. */
  readonly dumps: readonly unknown[];
  /** The step in which the call failed, which one it was, and what was told. */
  readonly outcome: string;
  readonly calls: readonly string[];
}

/** The whole life, with call number `failing` failing; `model` is one in which none failed. */
function live(t: ExecutionContext, arrangement: Arrangement, failing: number, model?: Run): Run {
  using life = new Life(arrangement.functions, failing);
  const dumps: unknown[] = [life.dump()];
  let outcome = '';
  let until = life.steps.length;
  for (const [index, step] of life.steps.entries()) {
    // What was built anew knows nothing of the failure: a bind shows that it works, then it may end.
    if (index > until && index < life.steps.length - 1) continue;
    const failedBefore = life.numbers.failed;
    let answer = step.run();
    const failed = life.numbers.failed !== failedBefore ? life.numbers.failed : undefined;
    const where = failed === undefined ? step.name : `${step.name}, ${failed} failed`;
    if (failed !== undefined) {
      outcome = `${where}: ${answer}`;
      if (step.tells === 'ConfigError') until = index + 2;
      if (!isDispensable(failed, answer)) t.is(answer, arrangement.tells?.[step.name] ?? step.tells, where);
      if (answer !== 'all is well' && answer !== 'goes without' && arrangement.stepwise === undefined) {
        equal(t, life.dump(), model!.dumps[index], where);
        t.is(life.look(), life.steps[index - 1]?.sees ?? '', where);
      }
      if (answer !== 'all is well' || step.tells === 'all is well') answer = step.retry();
    }
    t.is(answer, 'all is well', where);
    t.is(life.look(), step.sees, where);
    if (model === undefined) dumps.push(life.dump());
    else if (failed !== undefined) equal(t, life.dump(), model.dumps[index + 1], where);
  }
  equal(t, life.dump(), dumps[0], `nothing is left (${outcome})`);
  return { dumps, outcome, calls: life.numbers.names };
}

/** AVA's own comparison takes long to find no difference. */
function equal(t: ExecutionContext, actual: unknown, expected: unknown, message: string): void {
  if (!isDeepStrictEqual(actual, expected)) t.deepEqual(actual, expected, message);
}

function isDispensable(call: string, answer: Told): boolean {
  return answer === 'goes without' && DISPENSABLE.has(call);
}

for (const arrangement of arrangements) {
  test(`each host call fails once: ${arrangement.title}`, t => {
    const model = live(t, arrangement, -1);
    const { length } = model.calls;
    t.true(length >= arrangement.points, `${length} calls`);
    const outcomes = new Map<string, number>();
    for (let failing = 0; failing < length; failing++) {
      const { outcome } = Leaks.check(() => live(t, arrangement, failing, model));
      t.true(outcome.includes(model.calls[failing]!), `call ${failing}: ${outcome}`);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    t.log(`${length} points of failure`);
    for (const [outcome, count] of outcomes) t.log(`${count} x ${outcome}`);
  });
}
