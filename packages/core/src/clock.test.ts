import test from 'ava';
import { VirtualClock } from './clock.js';

test('time moves only when told to', t => {
  const clock = new VirtualClock();
  t.is(clock.now, 0);
  clock.step(1500);
  clock.set(2000);
  t.is(clock.now, 2000);
});

test('timers fire by deadline, equal ones by creation, and see their own time', t => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  for (const [name, ns] of [
    ['c', 30],
    ['a', 10],
    ['b1', 20],
    ['b2', 20],
    ['late', 41],
  ] as const) {
    clock.after(ns, () => fired.push(`${name}@${clock.now}`));
  }
  clock.step(40);
  t.deepEqual(fired, ['a@10', 'b1@20', 'b2@20', 'c@30']);
  t.is(clock.now, 40);
  clock.step(1);
  t.is(fired.at(-1), 'late@41');
});

test('a timer with no delay fires at the next step, even one of nothing', t => {
  const clock = new VirtualClock();
  let fired = 0;
  clock.after(0, () => fired++);
  t.is(fired, 0);
  clock.step(0);
  t.is(fired, 1);
});

test('next() is the earliest deadline', t => {
  const clock = new VirtualClock();
  t.is(clock.next(), undefined);
  clock.step(5);
  clock.after(20, () => undefined);
  const sooner = clock.after(10, () => undefined);
  t.is(clock.next(), 15);
  sooner.cancel();
  t.is(clock.next(), 25);
  clock.set(25);
  t.is(clock.next(), undefined);
});

test('a cancelled timer does not fire; cancelling twice, or late, does nothing', t => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  const one = clock.after(10, () => fired.push('one'));
  const two = clock.after(10, () => fired.push('two'));
  const three = clock.after(10, () => fired.push('three'));
  t.true(two.pending);
  two[Symbol.dispose]();
  two.cancel();
  t.false(two.pending);
  clock.step(10);
  one.cancel();
  t.deepEqual(fired, ['one', 'three']);
  t.false(three.pending);
});

test('a timer may cancel another one that is due at the same time', t => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  clock.after(10, () => {
    fired.push('first');
    second.cancel();
  });
  const second = clock.after(10, () => fired.push('second'));
  clock.step(20);
  t.deepEqual(fired, ['first']);
});

test('a periodic timer fires in each period of a long step', t => {
  const clock = new VirtualClock();
  const fired: number[] = [];
  const tick = (): void => {
    fired.push(clock.now);
    clock.after(10, tick);
  };
  clock.after(10, tick);
  clock.step(35);
  t.deepEqual(fired, [10, 20, 30]);
});

test('a timer that sets itself again without delay does not hold the clock', t => {
  const clock = new VirtualClock();
  const fired: number[] = [];
  const again = (): void => {
    fired.push(clock.now);
    clock.after(0, again);
  };
  clock.after(0, again);
  clock.step(3);
  t.deepEqual(fired, [0, 1, 2, 3]);
});

test('a timer that throws has fired; the others remain', t => {
  const clock = new VirtualClock();
  const fired: number[] = [];
  clock.after(10, () => {
    throw new Error('broken model');
  });
  clock.after(20, () => fired.push(clock.now));
  t.throws(() => clock.step(30), { message: 'broken model' });
  t.is(clock.now, 10);
  clock.step(20);
  t.deepEqual(fired, [20]);
});

test('time does not go back, and a timer does not move it', t => {
  const clock = new VirtualClock();
  clock.set(100);
  t.throws(() => clock.set(99), { instanceOf: RangeError });
  t.throws(() => clock.step(0.5), { instanceOf: RangeError });
  t.throws(() => clock.after(-1, () => undefined), { instanceOf: RangeError });
  t.throws(() => clock.after(NaN, () => undefined), { instanceOf: RangeError });
  clock.after(1, () => clock.step(1));
  t.throws(() => clock.step(1), { message: /cannot move the clock that fires it/ });
});
