// What real kernels answered to our scripts of system calls, and what host-sim answers: alike, or otherwise for a reason that is told.
import { readdirSync, readFileSync } from 'node:fs';
import {
  type Answer,
  compare,
  DIFFERENCES,
  formatDisagreement,
  hadIommufd,
  type KeptAnswers,
  scriptsOf,
  simulatedRig,
  transcript,
} from '@remora/tools/live';
import test from 'ava';

const FIXTURES = new URL('../../fixtures/real-kernel/', import.meta.url);

/** What is alike of each at least. */
const LEAST: Readonly<Record<string, number>> = {
  'linux-6.1.176.json': 250,
  'linux-7.2.12.json': 250,
  'linux-7.3.4.json': 920,
  'linux-7.3.4-nesting.json': 400,
};

const kept = new Map(
  readdirSync(FIXTURES).map(name => [name, JSON.parse(readFileSync(new URL(name, FIXTURES), 'utf8')) as KeptAnswers]),
);

async function simulated(of: KeptAnswers): Promise<Answer[]> {
  using rig = simulatedRig(of);
  return await transcript(rig, scriptsOf({ iommufd: hadIommufd(of), nesting: of.nesting }));
}

for (const [name, real] of kept) {
  test(`${name}: host-sim answers as Linux ${real.linux} did`, async t => {
    const { same, disagreements } = compare(real.answers, await simulated(real));
    t.deepEqual(disagreements.filter(({ why }) => why === undefined).map(formatDisagreement), []);
    t.true(same >= LEAST[name]!, `${same} alike`);
    t.log(`${same} alike, ${disagreements.length} not, for a reason`);
  });
}

test('no reason is told for what is alike, or for no step', async t => {
  const differing = new Set<string>();
  for (const real of kept.values()) {
    for (const { step } of compare(real.answers, await simulated(real)).disagreements) differing.add(step);
  }
  const idle = DIFFERENCES.flatMap(({ steps }) => steps).filter(step => !differing.has(step));
  t.deepEqual(idle, []);
});

test('a simulated answer that is wrong, one that is missing and one too many are found', async t => {
  const [real] = [...kept.values()];
  const answers = await simulated(real!);
  const wrong = answers.map(answer => (answer.step === 'map/no size' ? { ...answer, result: 0 } : answer));
  const found = (changed: readonly Answer[]): string[] =>
    compare(real!.answers, changed)
      .disagreements.filter(({ why }) => why === undefined)
      .map(formatDisagreement);
  t.deepEqual(found(wrong), ['map/no size: EINVAL, and simulated 0']);
  t.deepEqual(found(answers.filter(({ step }) => step !== 'group/status')), [
    'group/status: 0 1, and simulated nothing',
  ]);
  t.deepEqual(found([...answers, { step: 'group/more', result: 'EPERM' }]), [
    'group/more: nothing, and simulated EPERM',
  ]);
});
