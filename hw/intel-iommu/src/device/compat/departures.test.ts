/**
 * The complete list of where `compat=qemu-10.2` departs from the specification (vtd.md 12): for each flag of Behaviour one guest program
 * with what comes of it under both profiles, and that this flag makes the difference.
 */
import test from 'ava';
import { type Behaviour, QEMU_10_2, SPECIFICATION } from '../behaviour.js';
import { ATS_REQUESTS } from './ats.test.helper.js';
import { CACHES } from './caches.test.helper.js';
import { type Departure, exchanged, QEMU, SPEC } from './departure.test.helper.js';
import { INTERRUPTS } from './interrupts.test.helper.js';
import { LOOKUP } from './lookup.test.helper.js';
import { QUEUE } from './queue.test.helper.js';
import { REGISTERS } from './registers.test.helper.js';
import { WALKS } from './walks.test.helper.js';

const DEPARTURES = [REGISTERS, QUEUE, LOOKUP, WALKS, CACHES, ATS_REQUESTS, INTERRUPTS].flatMap(
  each => Object.entries(each) as [keyof Behaviour, Departure][],
);

for (const [flag, { what, program, spec, qemu }] of DEPARTURES) {
  test(`${flag}: ${what}`, t => {
    t.deepEqual(program(SPEC), spec, 'the specification');
    t.deepEqual(program(QEMU), qemu, 'QEMU');
    t.notDeepEqual(spec, qemu);
    const given = JSON.stringify(program(exchanged(SPEC, flag, QEMU)), bigints);
    const taken = JSON.stringify(program(exchanged(QEMU, flag, SPEC)), bigints);
    t.true(
      given !== JSON.stringify(spec, bigints) || taken !== JSON.stringify(qemu, bigints),
      'the flag by itself makes a difference',
    );
  });
}

test('every departure has exactly one such test', t => {
  const tested = DEPARTURES.map(([flag]) => flag);
  t.deepEqual(tested.toSorted(), Object.keys(SPECIFICATION).toSorted());
  t.deepEqual(Object.keys(QEMU_10_2).toSorted(), Object.keys(SPECIFICATION).toSorted());
  for (const flag of tested) t.notDeepEqual(QEMU_10_2[flag], SPECIFICATION[flag], flag);
});

function bigints(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}
