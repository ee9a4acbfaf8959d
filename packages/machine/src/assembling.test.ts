import test, { type ExecutionContext } from 'ava';
import { ConfigError, definePlugin, type Plugin } from '@remora/core';
import { DeviceKinds } from '@remora/pci';
import fc from 'fast-check';
import { ContainerModule } from 'inversify';
import { bench, MIB } from './bench.test.helper.js';
import { createMachine, type MachineOptions } from './create-machine.js';
import type { DeviceSpec } from './device-spec.js';
import type { Machine } from './machine.js';

function machineWith(devices: readonly DeviceSpec[], options: Partial<MachineOptions> = {}): Machine {
  return createMachine(undefined, { board: 'bench', plugins: [bench().plugin], devices, ...options });
}

interface Portrait {
  readonly state: Record<string, unknown>;
  readonly ids: readonly string[];
  readonly places: readonly string[];
}

/** What a started machine looks like: its tree, its buses and the order in which its devices came up. */
function portrait(devices: readonly DeviceSpec[]): Portrait {
  using machine = machineWith(devices);
  machine.start();
  const places = [...machine.board.rootBus.walk()].map(fn => `${fn.name} ${fn.devfn}`);
  return { state: machine.inspect().toJSON(), ids: machine.ids, places };
}

function refused(t: ExecutionContext, devices: readonly DeviceSpec[], message: string): void {
  const error = t.throws(() => machineWith(devices).start(), { instanceOf: ConfigError });
  t.is(error.message, message);
}

test('option strings and typed objects assemble the same machine', t => {
  const strings = [
    'unit',
    'gadget,level=7,loud=on,addr=05.0,id=one',
    'gadget,height=0x3',
    'pcie-root-port,id=rp',
    'gizmo,bus=rp,loud',
  ];
  const objects = [
    { driver: 'unit' },
    { driver: 'gadget', options: { level: 7, loud: true, addr: '05.0', id: 'one', fail: undefined } },
    { driver: 'gadget', options: { level: 3 } },
    { driver: 'pcie-root-port', options: { id: 'rp' } },
    { driver: 'gadget', options: { bus: 'rp', loud: true } },
  ];
  t.deepEqual(portrait(strings), portrait(objects));
  const { state, ids, places } = portrait(strings);
  t.deepEqual(ids, ['rp', 'unit', 'gadget', 'gadget.1', 'one']);
  t.deepEqual(places, ['chipset 0', 'vm0/rp 8', 'vm0/gadget.1 0', 'vm0/gadget 16', 'vm0/one 40']);
  const devices = state['devices'] as Record<string, { readonly config: unknown }>;
  t.deepEqual(
    ids.map(id => devices[id]?.config),
    [
      { port: 0 },
      {},
      { level: 3, loud: false, fail: undefined },
      { level: 1, loud: true, fail: undefined },
      { level: 7, loud: true, fail: undefined },
    ],
  );
});

test('every order of the devices gives the same machine', t => {
  const devices = [
    'gadget,bus=rp',
    'unit',
    'gadget',
    'gadget',
    'gadget,level=2,addr=01.0',
    'pcie-root-port,id=rp',
    'gadget,id=a,level=2',
  ];
  const expected = portrait(devices);
  fc.assert(
    fc.property(fc.shuffledSubarray(devices, { minLength: devices.length }), shuffled => {
      t.deepEqual(portrait(shuffled), expected);
    }),
    { numRuns: 60, seed: 1 },
  );
});

test('the board takes options in both forms', t => {
  using text = machineWith([], { board: 'bench,memory=2M' });
  using typed = machineWith([], { board: { driver: 'bench', options: { memory: 2 * MIB } } });
  t.is(text.board.ram.size, 2 * MIB);
  t.is(typed.board.ram.size, 2 * MIB);
});

test('an unknown device, property or value is refused with its place', t => {
  refused(t, ['gadgte'], 'devices[0]: "gadgte" is not a device; did you mean "gadget"?');
  refused(t, ['unit', 'gadget,levle=3'], 'devices[1].levle: unknown property; did you mean "level"? (gadget)');
  refused(t, ['gadget,level=12'], 'devices[0].level: "12" is not a whole number from 0 to 9 (gadget)');
  refused(t, [{ driver: 'gizmo', options: { loud: 3 } }], 'devices[0].loud: "3" is not on or off (gadget)');
  refused(t, ['unit,addr=03.0'], 'devices[0].addr: unknown property (unit)');
  refused(t, [{ driver: '' }], 'devices[0]: no driver is named');
  t.throws(() => machineWith([], { board: 'benhc' }), {
    instanceOf: ConfigError,
    message: 'board: "benhc" is not a board; did you mean "bench"?',
  });
  t.throws(() => machineWith([], { board: 'bench,memory=5' }), {
    instanceOf: ConfigError,
    message: 'board.memory: "5" is less than 4K (bench)',
  });
});

test('ids, places and buses are checked before anything is built', t => {
  refused(t, ['gadget,id=a', 'unit', 'gadget,id=a'], 'devices[2].id: "a" is the id of devices[0] already');
  refused(t, ['gadget,addr=3', 'gadget,addr=03.0,id=b'], 'devices[1].addr: 03.0 on pcie.0 is taken by "gadget"');
  refused(t, ['gadget,addr=0'], 'devices[0].addr: 00.0 on pcie.0 is taken by "chipset"');
  refused(
    t,
    ['gadget,addr=3f:00.0'],
    'devices[0].addr: "3f:00.0" names a bus by number: expected device[.function] (gadget)',
  );
  refused(t, ['gadget,bus=rp9'], 'devices[0].bus: there is no bus "rp9": expected one of pcie.0, or a bridge\'s id');
  refused(t, ['gadget,id=a', 'gadget,bus=a'], 'devices[1].bus: "a" is not a bridge (gadget)');
  refused(t, [{ driver: 'gadget', options: { id: 5 } }], 'devices[0].id: 5 is not a name (gadget)');
  refused(
    t,
    ['pcie-root-port,id=rp', 'gadget,bus=rp', 'gadget,bus=rp,addr=1'],
    'devices[2].addr: a PCI Express link has device 00 only, vm0/gadget.1 cannot go here (gadget)',
  );
  refused(
    t,
    Array.from({ length: 32 }, () => 'gadget'),
    'devices[31]: no place is free on pcie.0',
  );
});

test('bridges behind each other in a circle are refused', t => {
  refused(
    t,
    ['pcie-root-port,id=x,bus=y', 'pcie-root-port,id=y,bus=x'],
    'devices[0]: devices need each other in a circle: "x" needs "y" needs "x"',
  );
});

test('what a device refuses is told with the place where it was listed', t => {
  refused(t, ['unit', 'gadget,fail=create'], 'devices[1].level: too high for this gadget (gadget)');
  refused(t, ['unit', 'gadget,fail=realize'], 'devices[1].level: too high for this host (gadget)');
});

test('two plug-ins that define one device are refused by its name; the same plug-in twice is one', t => {
  const { plugin } = bench();
  const copycat = definePlugin({
    name: '@test/copycat',
    api: 1,
    module: new ContainerModule(({ bind }) => {
      bind(DeviceKinds).toDynamicValue(() => ({ id: 'gizmo', bus: 'pci' }) as never);
    }),
  });
  t.throws(() => createMachine(undefined, { board: 'bench', plugins: [plugin, copycat] }), {
    instanceOf: ConfigError,
    message: 'plugins: two plug-ins define the device "gizmo"',
  });
  using machine = createMachine(undefined, { board: 'bench', plugins: [plugin, plugin], devices: ['gadget'] });
  t.deepEqual(machine.ids, ['gadget']);
});

test('a plug-in for another interface is refused by name', t => {
  const old = { ...bench().plugin, name: '@acme/old', api: 0 } as unknown as Plugin;
  t.throws(() => createMachine(undefined, { board: 'bench', plugins: [bench().plugin, old] }), {
    instanceOf: ConfigError,
    message: 'plugins[1]: "@acme/old" was written for plug-in API 0, and this is API 1',
  });
});
