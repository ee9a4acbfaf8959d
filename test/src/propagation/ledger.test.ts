/** No error of the host is dropped: whichever of a machine's calls fails, and whatever the guest is told of it, the ledger has it. */
import test from 'ava';
import { ConfigError, Errno, type LedgerEvent } from '@remora/core';
import { FailurePoints } from '@remora/testing';
import { Life } from './life.js';

/** So many calls a life has at least. */
const POINTS = 100;

/** No call answers with it by itself. */
const UNUSUAL = Errno.ENXIO;

/** A call as fail-nth names it, and its result. */
function callOf({ data }: LedgerEvent): { readonly name: string; readonly result: number } {
  const { name, path, result } = data;
  return { name: path === undefined ? String(name) : `${String(name)} ${String(path)}`, result: Number(result) };
}

/** A machine's life until what `points` says has failed. Returns that call, and the calls that the ledger knows to have failed. */
function failuresOf(points: FailurePoints) {
  using life = points.uncounted(() => new Life([{ addr: '03.0' }], points));
  const { ledger } = life.host;
  ledger.on = true;
  for (const step of life.steps) {
    try {
      step.run();
    } catch (failure) {
      if (!(failure instanceof ConfigError)) throw failure;
    }
    // What comes after it is for others to judge.
    if (points.struck !== undefined) break;
  }
  const calls = ledger.events.filter(({ source }) => source.endsWith('/host-syscalls')).map(callOf);
  return { failed: points.struck, known: calls.filter(({ result }) => result < 0) };
}

test('each call of a machine’s life fails once, and is in the ledger', t => {
  const undisturbed = new FailurePoints();
  failuresOf(undisturbed);
  let calls = 0;
  for (const [event, name] of undisturbed.names.entries()) {
    if (name.startsWith('allocate ')) continue;
    const { failed, known } = failuresOf(new FailurePoints({ event, errno: UNUSUAL }));
    t.is(failed, name);
    t.is(known.filter(call => call.name === name && call.result === -UNUSUAL).length, 1, `call ${event}: ${name}`);
    calls++;
  }
  t.true(calls >= POINTS, `${calls} calls`);
});
