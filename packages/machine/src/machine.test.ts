import test from 'ava';
import { ConfigError, Leaks, Ledger, MemTx, type Plugin } from '@remora/core';
import { bench } from './bench.test.helper.js';
import { createMachine } from './create-machine.js';
import type { DeviceSpec } from './device-spec.js';
import type { Machine } from './machine.js';

function machineWith(plugin: Plugin, devices: readonly DeviceSpec[], ledger?: Ledger): Machine {
  return createMachine(undefined, { board: 'bench', plugins: [plugin], devices, ...(ledger && { ledger }) });
}

test('start realizes by need and resets in three phases, newest device first, the board last', t => {
  const { plugin, log } = bench();
  using machine = machineWith(plugin, ['gadget', 'unit']);
  t.deepEqual(log, []);
  machine.start();
  t.deepEqual(log, [
    'vm0/unit realized',
    'vm0/gadget at 0000:00:01.0',
    'vm0/gadget enter',
    'board enter',
    'vm0/gadget hold',
    'board hold',
    'vm0/gadget exit',
    'board exit',
  ]);
});

test('closing goes newest first, through what throws', t => {
  const { plugin, log } = bench();
  const machine = machineWith(plugin, ['unit', 'gadget,id=a', 'gadget,id=b,fail=dispose', 'gadget,id=c']);
  machine.start();
  log.length = 0;
  const error = t.throws(() => machine[Symbol.dispose](), {
    instanceOf: AggregateError,
    message: 'vm0: 1 failed to close',
  });
  t.is((error.errors[0] as Error).message, 'vm0/b would not close');
  t.deepEqual(log, ['vm0/c closed', 'vm0/b closed', 'vm0/a closed', 'vm0/unit closed', 'board closed']);
  t.deepEqual(
    [...machine.board.rootBus.walk()].map(fn => fn.name),
    ['chipset'],
  );
  machine[Symbol.dispose]();
  t.throws(() => machine.reset(), { message: 'vm0 is closed, not started' });
});

test('a machine that cannot start is closed as a whole', t => {
  const { plugin, log } = bench();
  Leaks.check(() => {
    const machine = machineWith(plugin, ['unit', 'gadget,id=a', 'gadget,id=b,fail=realize']);
    t.throws(() => machine.start(), {
      instanceOf: ConfigError,
      message: 'devices[2].level: too high for this host (gadget)',
    });
    t.throws(() => machine.start(), { message: 'vm0 is closed, not assembled' });
  });
  t.deepEqual(log.slice(-4), ['vm0/b closed', 'vm0/a closed', 'vm0/unit closed', 'board closed']);
});

test('a machine that cannot be assembled leaves nothing open', t => {
  const { plugin, log } = bench();
  Leaks.check(() => {
    t.throws(() => machineWith(plugin, ['unit', 'gadget,fail=create']), { instanceOf: ConfigError });
  });
  t.deepEqual(log, ['vm0/unit closed', 'board closed']);
});

test('hot plug realizes and resets one device; hot unplug gives its place and its name back', t => {
  const { plugin, log } = bench();
  using machine = machineWith(plugin, ['unit', 'gadget,id=a']);
  machine.start();
  log.length = 0;
  t.is(machine.plug('gadget,id=b'), 'b');
  t.is(machine.plug({ driver: 'gadget', options: { addr: '1f.7' } }), 'gadget');
  t.deepEqual(log, [
    'vm0/b at 0000:00:02.0',
    'vm0/b enter',
    'vm0/b hold',
    'vm0/b exit',
    'vm0/gadget at 0000:00:1f.7',
    'vm0/gadget enter',
    'vm0/gadget hold',
    'vm0/gadget exit',
  ]);
  t.is(machine.functions('b')[0], machine.config.functionAt('00:02.0'));

  log.length = 0;
  machine.unplug('b');
  t.deepEqual(log, ['vm0/b unplug', 'vm0/b closed']);
  t.is(machine.config.functionAt('00:02.0'), undefined);
  t.throws(() => machine.device('b'), {
    instanceOf: ConfigError,
    message: 'id: there is no device "b": expected one of unit, a, gadget',
  });
  t.is(machine.plug('gadget,id=b,addr=02.0'), 'b');
});

test('what cannot be plugged leaves the machine as it was', t => {
  const { plugin } = bench();
  using machine = machineWith(plugin, ['unit', 'gadget,id=a,addr=01.0']);
  machine.start();
  const before = machine.inspect().toString();
  const refused = (spec: DeviceSpec, message: string): void => {
    const error = t.throws(() => machine.plug(spec), { instanceOf: ConfigError });
    t.is(error.message, message);
    t.is(machine.inspect().toString(), before);
  };
  refused('gadget,id=a', 'device.id: "a" is the id of a device of this machine already');
  refused('gadget,addr=01.0', 'device.addr: 01.0 on pcie.0 is taken by "a"');
  refused('gadget,addr=02.0,fail=realize', 'device.level: too high for this host (gadget)');
  refused('gadget,addr=02.0,fail=create', 'device.level: too high for this gadget (gadget)');
  refused('unit', 'device: "unit" is part of the board: it cannot be plugged while the machine runs');
  t.is(machine.plug('gadget,addr=02.0'), 'gadget');
});

test('what cannot be unplugged stays', t => {
  const { plugin } = bench();
  using machine = machineWith(plugin, ['unit', 'pcie-root-port,id=rp', 'gadget,bus=rp,id=a']);
  machine.start();
  t.throws(() => machine.unplug('unit'), { message: 'unit: "unit" is part of the board: it cannot be unplugged' });
  t.throws(() => machine.unplug('rp'), { message: 'rp: "a" sits behind it: unplug that first' });
  t.deepEqual(machine.ids, ['rp', 'unit', 'a']);
  machine.unplug('a');
  machine.unplug('rp');
  t.deepEqual(machine.ids, ['unit']);
  t.throws(() => machine.plug('gadget,bus=rp'), {
    message: 'device.bus: there is no bus "rp": expected one of pcie.0, or a bridge\'s id',
  });
});

test('a device that fails while it is unplugged is gone nevertheless', t => {
  const { plugin, log } = bench();
  using machine = machineWith(plugin, ['unit', 'gadget,id=a,fail=unplug']);
  machine.start();
  t.throws(() => machine.unplug('a'), { message: 'vm0/a is stuck' });
  t.is(log.at(-1), 'vm0/a closed');
  t.deepEqual(machine.ids, ['unit']);
  t.is(machine.config.functionAt('00:01.0'), undefined);
});

test('the guest reaches memory, ports and configuration space', t => {
  const { plugin } = bench();
  using machine = machineWith(plugin, ['gadget']);
  machine.start();
  t.is(machine.memory.write(0, 0x1000, Uint8Array.of(1, 2, 3)), MemTx.OK);
  const bytes = new Uint8Array(3);
  t.is(machine.memory.read(0, 0x1000, bytes), MemTx.OK);
  t.deepEqual(bytes, Uint8Array.of(1, 2, 3));
  t.is(machine.ports.read(0, 0xcf8, bytes), MemTx.DECODE_ERROR);
  t.is(machine.config.read('00:01.0', 0, 4), 0x1000_1af4);
  t.is(machine.config.read('00:1e.0', 0, 4), 0xffff_ffff);
  machine.config.write('00:01.0', 4, 6, 2);
  t.is(machine.config.read('0000:00:01.0', 4, 2), 6);
  t.throws(() => machine.config.read('nowhere', 0, 4), { instanceOf: ConfigError });
});

test('the ledger shows what the machine does by itself', t => {
  const { plugin } = bench();
  const ledger = new Ledger();
  ledger.on = true;
  using machine = machineWith(plugin, ['unit', 'gadget,id=a'], ledger);
  machine.start();
  machine.plug('gadget,id=b');
  machine.unplug('a');
  t.deepEqual(
    ledger.events.map(({ source, kind, data }) => [source, kind, data['id'] ?? '']),
    [
      ['vm0', 'realize', 'unit'],
      ['vm0', 'realize', 'a'],
      ['vm0', 'reset', ''],
      ['vm0', 'plug', 'b'],
      ['vm0', 'realize', 'b'],
      ['vm0', 'unplug', 'a'],
    ],
  );
  const plug = ledger.events.find(({ kind }) => kind === 'plug');
  t.is(ledger.events.find(({ data }) => data['id'] === 'b' && data !== plug?.data)?.cause, plug?.id);
});

test('everything a machine opened is closed with it', t => {
  const { plugin } = bench();
  Leaks.check(() => {
    using machine = machineWith(plugin, ['unit', 'pcie-root-port,id=rp', 'gadget,bus=rp', 'gadget']);
    machine.start();
    machine.plug('gadget,id=late');
    machine.unplug('gadget');
    t.deepEqual(machine.ids, ['rp', 'unit', 'gadget.1', 'late']);
  });
});
