import test from 'ava';
import { token } from '@remora/core';
import { Container, ContainerModule } from 'inversify';
import { Lifetime, Scope } from './scope.js';

interface Named {
  readonly name: string;
}
const Kernel = token<Named>('Kernel');
const Machine = token<Named>('Machine');
const Service = token<Named>('Service');
const Kind = token<string>('Kind');

const constant = (id: typeof Kernel, name: string): ContainerModule =>
  new ContainerModule(({ bind }) => void bind<Named>(id).toConstantValue({ name }));

const closer = (name: string, log: string[]): Disposable => ({
  [Symbol.dispose]() {
    log.push(name);
  },
});

const failing = (message: string): Disposable => ({
  [Symbol.dispose]() {
    throw new Error(message);
  },
});

test('captive dependency: bare inversify keeps the first machine for the second', t => {
  const host = new Container();
  host
    .bind<Named>(Service)
    .toResolvedValue((machine: Named) => ({ name: `service of ${machine.name}` }), [Machine])
    .inSingletonScope();
  const names = ['first', 'second'].map(name => {
    const machine = new Container({ parent: host });
    machine.bind<Named>(Machine).toConstantValue({ name });
    return machine.get<Named>(Service).name;
  });
  t.deepEqual(names, ['service of first', 'service of first']);
});

test('captive dependency: a scope refuses it before the first child exists', t => {
  const captive = new ContainerModule(({ bind }) => {
    bind<Named>(Service)
      .toResolvedValue((machine: Named) => ({ name: machine.name }), [Machine])
      .inSingletonScope();
  });
  const host = new Scope('host', [captive]);
  const error = t.throws(() => new Scope('vm0', [constant(Machine, 'vm0')], host), { name: 'ConfigError' });
  t.regex(error.message, /^host: "Service" cannot be built from the bindings of this scope alone: No bindings found/);
});

test('a child asks its parent, and the parent builds once for all children', t => {
  let built = 0;
  const service = new ContainerModule(({ bind }) => {
    bind<Named>(Service)
      .toResolvedValue((kernel: Named) => ({ name: `${kernel.name}#${++built}` }), [Kernel])
      .inSingletonScope();
  });
  const host = new Scope('host', [service, constant(Kernel, 'linux')]);
  const first = new Scope('vm0', [], host);
  const second = new Scope('vm1', [], host);
  t.is(first.get(Service), second.get(Service));
  t.is(first.get(Service).name, 'linux#1');
});

test('getAll: bare inversify stops at the first container with a binding; a scope adds up', t => {
  const kinds = (...names: string[]): ContainerModule =>
    new ContainerModule(({ bind }) => names.forEach(name => bind<string>(Kind).toConstantValue(name)));

  const bareHost = new Container();
  bareHost.load(kinds('edu'));
  const bareMachine = new Container({ parent: bareHost });
  bareMachine.load(kinds('q35'));
  t.deepEqual(bareMachine.getAll<string>(Kind), ['q35']);

  const host = new Scope('host', [kinds('edu', 'nvme')]);
  const machine = new Scope('vm0', [kinds('q35')], host);
  t.deepEqual(machine.all(Kind).toSorted(), ['edu', 'nvme', 'q35']);
  t.deepEqual(host.all(Kind).toSorted(), ['edu', 'nvme']);
  t.deepEqual(host.all(Service), []);
});

test('unbind order: bare inversify closes in binding order and forgets children; a scope closes newest first, children included', t => {
  const order: string[] = [];
  const bare = new Container();
  for (const [id, name] of [
    [Kernel, 'first'],
    [Service, 'second'],
  ] as const) {
    bare
      .bind<Named>(id)
      .toResolvedValue(() => ({ name }))
      .inSingletonScope()
      .onDeactivation(() => void order.push(name));
    bare.get(id);
  }
  const child = new Container({ parent: bare });
  child
    .bind<Named>(Machine)
    .toResolvedValue(() => ({ name: 'child' }))
    .inSingletonScope()
    .onDeactivation(() => void order.push('child'));
  child.get(Machine);
  bare.unbindAll();
  t.deepEqual(order, ['first', 'second']);

  const log: string[] = [];
  const opens = (id: typeof Kernel, name: string): ContainerModule =>
    new ContainerModule(({ bind }) => {
      bind<Named>(id)
        .toResolvedValue((life: Lifetime) => ({ name, close: life.own(closer(name, log)) }), [Lifetime])
        .inSingletonScope();
    });
  const host = new Scope('host', [opens(Kernel, 'kernel'), opens(Service, 'service')]);
  const machine = new Scope('vm0', [opens(Machine, 'machine')], host);
  machine.get(Machine);
  machine.own(closer('device', log));
  host[Symbol.dispose]();
  t.deepEqual(log, ['device', 'machine', 'service', 'kernel']);
  t.true(machine.closed);
});

test('everything is closed even when some of it throws, and all failures are told', t => {
  const log: string[] = [];
  const host = new Scope('host', []);
  host.own(closer('kernel', log));
  const machine = new Scope('vm0', [], host);
  machine.own(closer('memory', log));
  machine.own(failing('the bus is stuck'));
  machine.own(closer('device', log));
  host.own(failing('the clock is stuck'));
  const error = t.throws(() => host[Symbol.dispose](), {
    instanceOf: AggregateError,
    message: 'host: 2 failed to close',
  });
  t.deepEqual(
    error.errors.map((each: Error) => each.message),
    ['the clock is stuck', 'the bus is stuck'],
  );
  t.deepEqual(log, ['device', 'memory', 'kernel']);
});

test('a closed scope answers nothing, and its parent no longer holds it', t => {
  const log: string[] = [];
  const host = new Scope('host', [constant(Kernel, 'linux')]);
  const machine = new Scope('vm0', [], host);
  machine.own(closer('device', log));
  machine[Symbol.dispose]();
  machine[Symbol.dispose]();
  t.deepEqual(log, ['device']);
  t.throws(() => machine.get(Kernel), { message: 'vm0 is closed' });
  t.throws(() => machine.all(Kind), { message: 'vm0 is closed' });
  t.throws(() => machine.own(closer('late', log)), { message: 'vm0 is closed' });
  t.is(host.get(Kernel).name, 'linux');
  host[Symbol.dispose]();
  t.deepEqual(log, ['device']);
});

test('released resources are the business of whoever released them', t => {
  const log: string[] = [];
  const scope = new Scope('vm0', []);
  scope.own(closer('kept', log));
  const given = scope.own(closer('given away', log));
  scope.release(given);
  scope.release(closer('stranger', log));
  scope[Symbol.dispose]();
  t.deepEqual(log, ['kept']);
});
