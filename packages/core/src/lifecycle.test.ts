import test from 'ava';
import type { Device, ResetPhase } from './device.js';
import { Lifecycle } from './lifecycle.js';

/** A device that writes down what is asked of it; `failing` names a method that throws. */
function device(name: string, calls: string[], failing?: string): Device {
  const note = (what: string): void => {
    calls.push(`${name}.${what}`);
    if (what === failing) throw new Error(`${name} cannot ${what}`);
  };
  return {
    name,
    realize: () => note('realize'),
    reset: (phase: ResetPhase) => note(phase),
    unplug: () => note('unplug'),
    [Symbol.dispose]: () => note('dispose'),
  };
}

test('a life from creation to the end', t => {
  const calls: string[] = [];
  const life = new Lifecycle(device('nic', calls));
  t.is(life.state, 'created');
  t.deepEqual(calls, [], 'creation calls nothing');
  life.realize();
  t.is(life.state, 'realized');
  life.reset();
  life.unplug();
  t.is(life.state, 'unplugged');
  life[Symbol.dispose]();
  t.is(life.state, 'disposed');
  t.deepEqual(
    calls.map(call => call.slice(4)),
    ['realize', 'enter', 'hold', 'exit', 'unplug', 'dispose'],
  );
});

test('methods that a device leaves out are not missed', t => {
  const life = new Lifecycle({ name: 'bare', [Symbol.dispose]: () => undefined });
  life.realize();
  life.reset();
  life.unplug();
  t.notThrows(() => life[Symbol.dispose]());
});

test('illegal transitions are refused and change nothing', t => {
  const calls: string[] = [];
  const life = new Lifecycle(device('nic', calls));
  t.throws(() => life.unplug(), { message: 'nic is created: it cannot become unplugged' });
  life.realize();
  t.throws(() => life.realize(), { message: 'nic is realized: it cannot become realized' });
  life.unplug();
  t.throws(() => life.unplug(), { message: 'nic is unplugged: it cannot become unplugged' });
  t.throws(() => life.realize(), { message: 'nic is unplugged: it cannot become realized' });
  life[Symbol.dispose]();
  t.throws(() => life.realize(), { message: 'nic is disposed: it cannot become realized' });
  t.deepEqual(calls, ['nic.realize', 'nic.unplug', 'nic.dispose']);
});

test('a second dispose does nothing', t => {
  const calls: string[] = [];
  const life = new Lifecycle(device('nic', calls));
  life[Symbol.dispose]();
  life[Symbol.dispose]();
  t.deepEqual(calls, ['nic.dispose']);
});

test('a device that cannot be realized remains created, and can be disposed of', t => {
  const calls: string[] = [];
  const life = new Lifecycle(device('nic', calls, 'realize'));
  t.throws(() => life.realize(), { message: 'nic cannot realize' });
  t.is(life.state, 'created');
  life.reset();
  life[Symbol.dispose]();
  t.deepEqual(calls, ['nic.realize', 'nic.dispose'], 'what is not realized is not reset');
});

test('a reset passes each phase on all devices before the next, those behind first', t => {
  const calls: string[] = [];
  const bridge = new Lifecycle(device('bridge', calls));
  const nic = new Lifecycle(device('nic', calls), bridge);
  const iommu = new Lifecycle(device('iommu', calls));
  for (const life of [bridge, nic, iommu]) life.realize();
  calls.length = 0;
  Lifecycle.resetAll([bridge, iommu]);
  t.deepEqual(
    calls,
    ['enter', 'hold', 'exit'].flatMap(phase => ['nic', 'bridge', 'iommu'].map(name => `${name}.${phase}`)),
  );
});

test('devices that are not realized are left out of a reset', t => {
  const calls: string[] = [];
  const bridge = new Lifecycle(device('bridge', calls));
  bridge.realize();
  new Lifecycle(device('late', calls), bridge);
  const gone = new Lifecycle(device('gone', calls), bridge);
  gone.realize();
  gone.unplug();
  calls.length = 0;
  bridge.reset();
  t.deepEqual(calls, ['bridge.enter', 'bridge.hold', 'bridge.exit']);
});

test('unplug and dispose take the devices behind first, newest first', t => {
  const calls: string[] = [];
  const bridge = new Lifecycle(device('bridge', calls));
  const one = new Lifecycle(device('one', calls), bridge);
  const two = new Lifecycle(device('two', calls), bridge);
  for (const life of [bridge, one, two]) life.realize();
  calls.length = 0;
  bridge.unplug();
  bridge[Symbol.dispose]();
  t.deepEqual(
    calls,
    ['unplug', 'dispose'].flatMap(what => ['two', 'one', 'bridge'].map(name => `${name}.${what}`)),
  );
  t.deepEqual([one.state, two.state, bridge.state], ['disposed', 'disposed', 'disposed']);
  t.deepEqual(bridge.children, []);
});

test('one that throws does not keep the others from their end', t => {
  const calls: string[] = [];
  const bridge = new Lifecycle(device('bridge', calls, 'dispose'));
  const one = new Lifecycle(device('one', calls), bridge);
  const two = new Lifecycle(device('two', calls, 'dispose'), bridge);
  const failure = t.throws(() => bridge[Symbol.dispose](), { instanceOf: AggregateError });
  t.deepEqual(calls, ['two.dispose', 'one.dispose', 'bridge.dispose']);
  t.deepEqual(
    failure?.errors.map(error => (error as Error).message),
    ['two cannot dispose', 'bridge cannot dispose'],
  );
  t.deepEqual([one.state, two.state, bridge.state], ['disposed', 'disposed', 'disposed']);
});

test('a failed unplug is an unplug all the same', t => {
  const life = new Lifecycle(device('nic', [], 'unplug'));
  life.realize();
  t.throws(() => life.unplug(), { message: 'nic cannot unplug' });
  t.is(life.state, 'unplugged');
});

test('a device is realized behind one that is', t => {
  const bridge = new Lifecycle(device('bridge', []));
  const nic = new Lifecycle(device('nic', []), bridge);
  t.throws(() => nic.realize(), { message: /cannot be realized behind bridge, which is created/ });
  bridge.realize();
  t.notThrows(() => nic.realize());
  bridge.unplug();
  t.throws(() => new Lifecycle(device('late', []), bridge), { message: /behind bridge, which is unplugged/ });
});

test('a device may realize those behind it while it is realized itself', t => {
  const calls: string[] = [];
  const bridge: Lifecycle = new Lifecycle({ ...device('bridge', calls), realize: () => nic.realize() });
  const nic = new Lifecycle(device('nic', calls), bridge);
  bridge.realize();
  t.deepEqual([bridge.state, nic.state], ['realized', 'realized']);
});

test('no transition begins inside another', t => {
  const failures: string[] = [];
  const attempt = (action: () => void): void => {
    try {
      action();
    } catch (failure) {
      failures.push((failure as Error).message);
    }
  };
  const life: Lifecycle = new Lifecycle({
    name: 'nic',
    realize: () => attempt(() => life[Symbol.dispose]()),
    reset: phase => {
      if (phase === 'hold') for (const action of [() => life.reset(), () => life.unplug()]) attempt(action);
    },
    [Symbol.dispose]: () => undefined,
  });
  life.realize();
  life.reset();
  t.deepEqual(failures, [
    'nic: cannot become disposed during realize',
    'nic: cannot be reset during reset',
    'nic: cannot become unplugged during reset',
  ]);
  t.is(life.state, 'realized');
});
