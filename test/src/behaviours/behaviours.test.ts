import test from 'ava';
import { Rig, type RigOptions } from '../rig/rig.js';
import { behaviours } from './index.js';
import type { Behaviour } from './behaviour.js';

/** How many rows must notice that nothing is propagated. */
const MUST_FAIL_WITHOUT_PROPAGATION = 55;

/** Runs a behaviour with its rigs closed afterwards, whatever happens. Returns what it threw. */
function run(behaviour: Behaviour, common: RigOptions = {}): unknown {
  const rigs: Rig[] = [];
  try {
    behaviour.run(options => {
      const rig = new Rig({ ...common, ...options });
      rigs.push(rig);
      return rig;
    });
    return undefined;
  } catch (failure) {
    return failure;
  } finally {
    for (const rig of rigs) rig[Symbol.dispose]();
  }
}

for (const behaviour of behaviours) {
  test(`behaviour ${behaviour.number}: ${behaviour.title}`, t => {
    const failure = run(behaviour);
    if (failure instanceof Error) throw failure;
    t.is(failure, undefined);
  });
}

test('every row from 1 to 68 is there, once', t => {
  t.deepEqual(
    behaviours.map(({ number }) => number),
    Array.from({ length: 68 }, (_, index) => index + 1),
  );
});

test(`without propagation at least ${MUST_FAIL_WITHOUT_PROPAGATION} of them fail`, t => {
  const passed = behaviours.filter(behaviour => run(behaviour, { propagation: false }) === undefined);
  t.log(`pass without propagation: ${passed.map(({ number }) => number).join(', ') || 'none'}`);
  t.true(behaviours.length - passed.length >= MUST_FAIL_WITHOUT_PROPAGATION);
});
