import test from 'ava';
import { VirtualClock } from '@remora/core';
import { RealTime } from './real-time.js';

const MS = 1_000_000;

test('a timer fires by itself, not before its time, and one that it sets does too', async t => {
  const clock = new VirtualClock();
  using time = new RealTime(clock, failure => t.fail(String(failure)));
  const start = performance.now();
  await new Promise<void>(resolve => {
    clock.after(20 * MS, () => clock.after(20 * MS, resolve));
    time.arm();
  });
  t.true(performance.now() - start >= 39);
  t.true(clock.now >= 40 * MS);
});

test('a nearer timer is not kept waiting by a farther one', async t => {
  const clock = new VirtualClock();
  using time = new RealTime(clock, failure => t.fail(String(failure)));
  clock.after(3_600_000 * MS, () => t.fail('an hour has not passed'));
  time.arm();
  await new Promise<void>(resolve => {
    clock.after(MS, resolve);
    time.arm();
  });
  t.pass();
});

test('advance: the clock takes over the time, also after it was moved by somebody else', t => {
  const clock = new VirtualClock();
  clock.set(5);
  using time = new RealTime(clock, failure => t.fail(String(failure)));
  const before = clock.now;
  while (clock.now === before) time.advance();
  const ahead = clock.now + 3_600_000 * MS;
  clock.set(ahead);
  time.advance();
  t.is(clock.now, ahead, 'it does not go back');
});

test('a timer that throws is reported, and time goes on', async t => {
  const clock = new VirtualClock();
  const failures: unknown[] = [];
  using time = new RealTime(clock, failure => failures.push((failure as Error).message));
  clock.after(MS, () => {
    throw new Error('broken');
  });
  await new Promise<void>(resolve => {
    clock.after(2 * MS, resolve);
    time.arm();
  });
  t.deepEqual(failures, ['broken']);
});

test('disposed of, nothing fires any more', async t => {
  const clock = new VirtualClock();
  const time = new RealTime(clock, failure => t.fail(String(failure)));
  clock.after(MS, () => t.fail('it fired'));
  time.arm();
  time[Symbol.dispose]();
  await new Promise(resolve => setTimeout(resolve, 20));
  t.is(clock.now, 0);
});
