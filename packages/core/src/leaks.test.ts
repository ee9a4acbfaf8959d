import { AsyncResource } from 'node:async_hooks';
import test from 'ava';
import { Leaks, trackDisposable, untrackDisposable } from './leaks.js';
import { Lifecycle } from './lifecycle.js';

class Resource implements Disposable {
  constructor(name: string) {
    trackDisposable(this, name);
  }

  [Symbol.dispose](): void {
    untrackDisposable(this);
  }
}

function makeForgotten(): Resource {
  return new Resource('forgotten handle');
}

test('what is disposed of is no leak', t => {
  const result = Leaks.check(() => {
    new Resource('handle')[Symbol.dispose]();
    return 5;
  });
  t.is(result, 5);
});

test('what is forgotten is reported with where it was created', t => {
  const failure = t.throws(() => Leaks.check(() => void makeForgotten()));
  t.regex(failure!.message, /^1 not disposed of:\nforgotten handle, created\n/);
  t.regex(failure!.message, /makeForgotten/);
});

test('an asynchronous body is judged at its end', async t => {
  await t.notThrowsAsync(
    Leaks.check(async () => {
      const resource = new Resource('handle');
      await Promise.resolve();
      resource[Symbol.dispose]();
    }),
  );
  const failure = await t.throwsAsync(
    Leaks.check(async () => {
      await Promise.resolve();
      makeForgotten();
    }),
  );
  t.regex(failure!.message, /forgotten handle/);
});

test('it does not matter in which context a resource is disposed of', async t => {
  const elsewhere = new AsyncResource('elsewhere');
  await t.notThrowsAsync(
    Leaks.check(async () => {
      const resource = new Resource('handle');
      await Promise.resolve();
      elsewhere.runInAsyncScope(() => resource[Symbol.dispose]());
    }),
  );
});

test('interleaved checks see their own resources only', async t => {
  let goOn = (): void => undefined;
  const gate = new Promise<void>(resolve => (goOn = resolve));
  const clean = Leaks.check(async () => {
    const resource = new Resource('held');
    await gate;
    resource[Symbol.dispose]();
  });
  const failure = t.throws(() => Leaks.check(() => void makeForgotten()));
  t.regex(failure!.message, /^1 not disposed of/);
  goOn();
  await t.notThrowsAsync(clean);
});

test('the failure of the body comes before its leaks', async t => {
  t.throws(
    () =>
      Leaks.check(() => {
        makeForgotten();
        throw new Error('first');
      }),
    { message: 'first' },
  );
  const body = async (): Promise<void> => {
    makeForgotten();
    await Promise.reject(new Error('second'));
  };
  await t.throwsAsync(Leaks.check(body), { message: 'second' });
});

test('resources without tracking of their own are tracked by hand', t => {
  const leaks = new Leaks();
  const handle = leaks.track('fd 3', { fd: 3 });
  t.is(leaks.track('fd 4', { fd: 4 }).fd, 4);
  leaks.release(handle);
  t.deepEqual(
    leaks.open.map(({ what }) => what),
    ['fd 4'],
  );
  t.throws(() => leaks.assertNone(), { message: /fd 4/ });
});

test('outside a check nothing is kept', t => {
  makeForgotten();
  t.notThrows(() => Leaks.check(() => undefined));
});

test('a device that is never disposed of is a leak', t => {
  const device = { name: 'nic', [Symbol.dispose]: () => undefined };
  const failure = t.throws(() => Leaks.check(() => new Lifecycle(device).realize()));
  t.regex(failure!.message, /device nic/);
  t.notThrows(() => Leaks.check(() => new Lifecycle(device)[Symbol.dispose]()));
});
