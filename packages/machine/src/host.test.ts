import test, { type ExecutionContext } from 'ava';
import { ConfigError, definePlugin, integer, Leaks, MemTx, properties, token } from '@remora/core';
import { DeviceKinds, PciFunction, type DeviceKind } from '@remora/pci';
import { ForwardingSyscalls } from '@remora/host';
import { ContainerModule } from 'inversify';
import { bench, MIB } from './bench.test.helper.js';
import { createHost, simulatedHostOf, type HostOptions } from './create-host.js';
import { createMachine } from './create-machine.js';
import { assembleOn, type Host } from './host.js';

const probeKind: DeviceKind<{ level: number }, 'pci'> = {
  id: 'probe',
  bus: 'pci',
  properties: properties({ level: integer({ min: 0, max: 9 }, 1, 'how high') }),
  create: context => {
    const fn = new PciFunction(context.name, { vendor: 0x1af4, device: 0x1000, classCode: 0xff0000 });
    return { name: context.name, realize: () => context.plug(fn), [Symbol.dispose]: () => {} };
  },
};
const probe = definePlugin({
  name: '@test/probe',
  api: 1,
  module: new ContainerModule(({ bind }) => void bind(DeviceKinds).toConstantValue(probeKind)),
});

function hostWith(t: ExecutionContext, options: HostOptions = {}): Host<ReturnType<typeof createHost>['platform']> {
  const host = createHost({ memory: 16 * MIB, plugins: [probe], ...options });
  t.teardown(() => host[Symbol.dispose]());
  return host;
}

test('physical devices are given as strings or objects, with their place, driver and group', t => {
  const devices = [
    'probe,addr=3f:00.0,level=3',
    { driver: 'probe', options: { addr: '0000:01:02.3', boundTo: 'none' } },
  ];
  const { platform } = hostWith(t, { devices });
  t.is(platform.function('3f:00.0').bdf, '0000:3f:00.0');
  const described = platform.dump()['devices'] as Record<string, { driver: string | null }>;
  t.deepEqual(
    Object.entries(described).map(([at, { driver }]) => [at, driver]),
    [
      ['0000:3f:00.0', 'vfio-pci'],
      ['0000:01:02.3', null],
    ],
  );
});

test('a physical device that cannot be built is refused with its place', t => {
  const refused = (devices: NonNullable<HostOptions['devices']>, message: string): void => {
    Leaks.check(() => {
      const error = t.throws(() => createHost({ memory: 16 * MIB, plugins: [probe, bench().plugin], devices }));
      t.true(error instanceof ConfigError);
      t.is(error.message, message);
    });
  };
  refused(['prob,addr=1:0.0'], 'devices[0]: "prob" is not a device; did you mean "probe"?');
  refused(['probe'], 'devices[0].addr: must be given ([dddd:]bb:dd.f): its address on the host (probe)');
  refused(
    ['probe,addr=1:0.0', 'probe,addr=1:1.0,level=x'],
    'devices[1].level: "x" is not a whole number from 0 to 9 (probe)',
  );
  refused(['unit,addr=1:0.0'], 'devices[0]: "unit" is not a PCI device (unit)');
});

test('machines of a host have their own names, devices and RAM, and the host’s kinds, clock and ledger', t => {
  const host = hostWith(t);
  const { plugin } = bench();
  const [first, second] = [0, 1].map(() =>
    createMachine(host, { board: 'bench', plugins: [plugin], devices: ['probe'] }),
  );
  t.deepEqual([first!.name, second!.name], ['vm0', 'vm1']);
  t.is(first!.clock, host.clock);
  t.is(second!.ledger, host.ledger);
  first!.start();
  second!.start();
  first!.memory.write(0, 0x1000, Uint8Array.of(1));
  const byte = new Uint8Array(1);
  t.is(second!.memory.read(0, 0x1000, byte), MemTx.OK);
  t.deepEqual(byte, Uint8Array.of(0));
  t.is(first!.functions('probe')[0]!.name, 'vm0/probe');

  t.throws(() => createMachine(host, { name: 'vm1', board: 'bench', plugins: [plugin] }), {
    instanceOf: ConfigError,
    message: 'name: "vm1" is the name of another machine on this host',
  });
  first![Symbol.dispose]();
  using third = createMachine(host, { board: 'bench', plugins: [plugin] });
  t.is(third.name, 'vm0');
  t.is(simulatedHostOf(third), host.platform);
});

test('a machine that cannot be assembled gives its name, its process and its memory back', t => {
  const host = hostWith(t);
  const before = host.platform.dump();
  const { plugin } = bench();
  for (const options of [
    { board: 'bench', plugins: [plugin], devices: ['gadget,fail=create'] },
    { board: 'bench,memory=64M', plugins: [plugin] },
    { board: 'bench', plugins: [{ ...plugin, api: 2 as never }] },
  ]) {
    t.throws(() => createMachine(host, options), { instanceOf: ConfigError });
    t.deepEqual(host.platform.dump(), before);
  }
  t.throws(() => createMachine(host, { board: 'bench,memory=64M', plugins: [plugin] }), {
    message: 'board.memory: the host has no 67108864 bytes of memory left (ENOMEM) (bench)',
  });
  using machine = createMachine(host, { board: 'bench', plugins: [plugin] });
  t.is(machine.name, 'vm0');
});

test('guest RAM is mapped memory of the process, and given back before the process ends', t => {
  const host = hostWith(t);
  const calls: string[] = [];
  class Watched extends ForwardingSyscalls {
    override mmap(length: number): ReturnType<ForwardingSyscalls['mmap']> {
      calls.push(`mmap ${length}`);
      return super.mmap(length);
    }
    override munmap(...[address, length]: Parameters<ForwardingSyscalls['munmap']>): number {
      calls.push(`munmap ${length}`);
      return super.munmap(address, length);
    }
  }
  const { plugin } = bench();
  const machine = createMachine(host, { board: 'bench', plugins: [plugin], interpose: next => new Watched(next) });
  machine.memory.write(0, 0x3000, Uint8Array.of(7));
  const byte = new Uint8Array(1);
  host.platform.memory.read(0, host.platform.hpaOf(machine.board.ram, 3)!, byte);
  t.deepEqual(byte, Uint8Array.of(7));
  machine[Symbol.dispose]();
  t.deepEqual(calls, [`mmap ${MIB}`, `munmap ${MIB}`]);
});

test('a machine runs on bare system calls too', t => {
  const host = hostWith(t);
  using process = host.platform.process('bare');
  using machine = createMachine(process, { board: 'bench', plugins: [bench().plugin], devices: ['gadget'] });
  machine.start();
  t.is(machine.host, undefined);
  t.is(machine.process?.syscalls.open('/dev/vfio/vfio'), 3);
  t.throws(() => simulatedHostOf(machine), {
    instanceOf: ConfigError,
    message: 'host: vm0 does not run on a simulated host',
  });
});

test('a host closes its machines first, newest first', t => {
  const { plugin, log } = bench();
  Leaks.check(() => {
    const host = createHost({ memory: 16 * MIB });
    for (const id of ['a', 'b'])
      createMachine(host, { board: 'bench', plugins: [plugin], devices: [`gadget,id=${id}`] }).start();
    log.length = 0;
    host[Symbol.dispose]();
  });
  t.deepEqual(log, ['vm1/b closed', 'board closed', 'vm0/a closed', 'board closed']);
});

test('a host whose plug-in wants something of a machine is refused at boot', t => {
  const Board = token<object>('Board');
  const Service = token<object>('Service');
  const captive = definePlugin({
    name: '@test/captive',
    api: 1,
    module: new ContainerModule(({ bind }) => {
      bind<object>(Service)
        .toResolvedValue((board: object) => ({ board }), [Board])
        .inSingletonScope();
    }),
  });
  const error = t.throws(() => createHost({ plugins: [captive] }), { instanceOf: ConfigError });
  t.regex(error.message, /^host: "Service" cannot be built from the bindings of this scope alone: No bindings found/);
});

test('a host that was made for a machine is closed if the machine cannot be built', t => {
  Leaks.check(() => {
    const host = createHost({ memory: 16 * MIB });
    t.throws(() => assembleOn(host, on => createMachine(on, { board: 'nowhere' })), {
      message: 'board: "nowhere" is not a board',
    });
    t.true(host.scope.closed);
  });
});
