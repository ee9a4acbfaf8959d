/** QMP sessions over a UNIX socket, against a machine. */
import { Leaks } from '@remora/core';
import type { Machine } from '@remora/machine';
import { MachineTarget } from '@remora/tools';
import { serveQmp } from '@remora/qmp';
import test from 'ava';
import { duplexPair } from './duplex-pair.js';
import { allObjects, QmpClient, qtreeObjects } from './qmp-client.js';
import { ServedMachine } from './served-machine.js';

const DEVICES = ['intel-iommu', 'pcie-root-port,id=rp0,addr=04.0', 'iommu-testdev,id=probe,addr=05.0', 'edu,addr=06.0'];
const ABSENT = 0xffff_ffff;
const EDU = 0x11e8_1234;
const until = async (done: () => boolean): Promise<void> => {
  while (!done()) await new Promise(resolve => setTimeout(resolve, 1));
};

/** Runs `body` with a machine that is closed afterwards; nothing may stay open. */
function served(devices: readonly string[], body: (served: ServedMachine) => Promise<void>): Promise<void> {
  return Leaks.check(async () => {
    const opened = await ServedMachine.open(devices);
    try {
      await body(opened);
    } finally {
      await opened.close();
    }
  });
}

/** Has the root port lead to bus 1, as firmware would. */
function enumerate({ config }: Machine): void {
  config.write('00:04.0', 0x18, 0x01_01_00, 4);
  config.write('00:04.0', 0x20, 0xfe00_fe00, 4);
  config.write('00:04.0', 0x04, 6, 2);
}

test('connect, negotiate, inspect, hot-plug, unplug, reset, quit', async t => {
  await served(DEVICES, async vm => {
    const { machine } = vm;
    enumerate(machine);
    const client = await QmpClient.connect(vm.path);
    t.is((await client.ask('query-status')).error?.class, 'CommandNotFound');
    t.deepEqual(await client.run('qmp_capabilities'), {});
    t.deepEqual(await client.run('query-status'), { status: 'prelaunch', running: false });
    await client.run('cont');
    t.deepEqual(await client.run('query-status'), { status: 'running', running: true });
    t.deepEqual(await client.run('query-name'), { name: 'served' });
    t.is(await client.run('qom-get', { path: 'probe', property: 'parent_bus' }), '/machine/q35/pcie.0');
    t.is(await client.run('qom-get', { path: '/machine/peripheral/probe', property: 'addr' }), 0x28);

    t.is(machine.config.read('01:00.0', 0, 4), ABSENT);
    await client.run('device_add', { driver: 'edu', id: 'hot', bus: 'rp0', dma_mask: 0xffff_ffff });
    t.is(machine.config.read('01:00.0', 0, 4) >>> 0, EDU);
    t.is(await client.run('qom-get', { path: 'hot', property: 'dma_mask' }), 0xffff_ffff);
    t.true(await client.run('qom-get', { path: 'hot', property: 'hotplugged' }));
    t.is(await client.run('qom-get', { path: 'hot', property: 'parent_bus' }), '/machine/peripheral/rp0/rp0');
    machine.config.write('01:00.0', 0x10, 0xfe00_0000, 4);
    machine.config.write('01:00.0', 0x04, 2, 2);
    const [root] = (await client.run('query-pci')) as {
      devices: { qdev_id: string; pci_bridge?: { devices: object[] } }[];
    }[];
    const bridge = root!.devices.find(each => each.qdev_id === 'rp0')!.pci_bridge!;
    t.like(bridge.devices[0], {
      bus: 1,
      slot: 0,
      qdev_id: 'hot',
      regions: [{ bar: 0, address: 0xfe00_0000, size: 0x10_0000 }],
    });
    const identification = new Uint8Array(4);
    machine.memory.read(0, 0xfe00_0000, identification);
    t.is(identification[0], 0xed, 'its registers are where query-pci says');

    await client.run('device_del', { id: 'hot' });
    t.is(machine.config.read('01:00.0', 0, 4), ABSENT);
    t.is((await client.ask('device_del', { id: 'hot' })).error?.class, 'DeviceNotFound');

    machine.config.write('00:06.0', 0x04, 6, 2);
    await client.run('system_reset');
    t.is(machine.config.read('00:06.0', 0x04, 2), 0, 'the reset was over before the reply');
    await client.run('quit');
    await client.closed();
    t.is(vm.quitBy, 'host-qmp-quit');
    t.deepEqual(
      client.events.map(({ event, data }) => [event, data]),
      [
        ['RESUME', undefined],
        ['DEVICE_DELETED', { device: 'hot', path: '/machine/peripheral/hot' }],
        ['RESET', { guest: false, reason: 'host-qmp-system-reset' }],
        ['SHUTDOWN', { guest: false, reason: 'host-qmp-quit' }],
      ],
    );
  });
});

test('every object of info qtree is in qom-list, also after plugging and unplugging', async t => {
  await served([...DEVICES, 'pcie-pci-bridge,id=bridge,addr=08.0', 'edu,id=behind,bus=bridge'], async vm => {
    const client = await vm.client();
    const check = async (count: number): Promise<void> => {
      const objects = await allObjects(client);
      const shown = qtreeObjects(await client.info('qtree'));
      t.is(shown.filter(each => each.what === 'dev').length, count);
      for (const { what, name, type } of shown) {
        const paths = [...objects].filter(each => each[1] === type).map(each => each[0]);
        if (what === 'dev' && name !== '') t.true(paths.includes(`/machine/peripheral/${name}`), `${type} ${name}`);
        else if (what === 'bus' && type !== 'System')
          t.true(
            paths.some(path => path.endsWith(`/${name}`)),
            `${type} ${name}`,
          );
        else t.true(paths.length >= shown.filter(each => each.type === type && each.name === name).length, type);
      }
    };
    await check(9);
    await client.run('device_add', { driver: 'edu', bus: 'rp0' });
    await client.run('device_add', { driver: 'dma-engine', id: 'engine', bus: 'bridge', addr: '1f.0' });
    await check(11);
    t.is(await client.run('qom-get', { path: '/machine/peripheral-anon/device[2]', property: 'type' }), 'edu');
    await client.run('device_del', { id: '/machine/peripheral-anon/device[2]' });
    t.deepEqual(client.events.at(-1)?.data, { path: '/machine/peripheral-anon/device[2]' });
    await check(10);
  });
});

test('the root bus keeps what it has; a bridge leaves with what is behind it', async t => {
  await served(['edu,id=still,addr=05.0', 'pcie-root-port,id=rp0,addr=04.0'], async vm => {
    const client = await vm.client();
    const fixed = { class: 'GenericError', desc: "Bus 'pcie.0' does not support hotplugging" };
    for (const add of [{}, { bus: 'pcie.0' }, { addr: '1f.0' }])
      t.deepEqual((await client.ask('device_add', { driver: 'edu', ...add })).error, fixed, JSON.stringify(add));
    for (const id of ['still', 'rp0', '/machine/q35/mch'])
      t.deepEqual((await client.ask('device_del', { id })).error, fixed, id);
    t.is(vm.machine.config.read('00:05.0', 0, 4), EDU);
    t.false(await client.run('qom-get', { path: 'still', property: 'hotpluggable' }));

    await client.run('device_add', { driver: 'x3130-upstream', id: 'up', bus: 'rp0' });
    for (const id of ['d0', 'd1'])
      await client.run('device_add', {
        driver: 'xio3130-downstream',
        id,
        bus: 'up',
        addr: id === 'd0' ? '00.0' : '01.0',
      });
    await client.run('device_add', { driver: 'edu', id: 'deep', bus: 'd1' });
    t.true(await client.run('qom-get', { path: 'deep', property: 'hotpluggable' }));
    await client.run('device_del', { id: 'up' });
    t.deepEqual(vm.machine.ids, ['still', 'rp0']);
    await client.run('query-status');
    t.deepEqual(
      client.events.map(({ data }) => data),
      ['deep', 'd1', 'd0', 'up'].map(id => ({ device: id, path: `/machine/peripheral/${id}` })),
    );
  });
});

test('a function that comes beside function 0 is refused, one that comes before is not', async t => {
  await served(['pcie-root-port,id=rp0', 'pcie-pci-bridge,id=bridge'], async vm => {
    const client = await vm.client();
    for (const bus of ['rp0', 'bridge']) {
      await client.run('device_add', { driver: 'edu', id: `${bus}-first`, bus, addr: '00.2' });
      await client.run('device_add', { driver: 'edu', id: `${bus}-zero`, bus, addr: 0 });
      const { error } = await client.ask('device_add', { driver: 'edu', bus, addr: 3 });
      t.regex(error?.desc ?? '', /function 0 of that slot already/);
    }
    await client.run('device_add', { driver: 'edu', bus: 'bridge' });
    t.regex((await client.ask('device_add', { driver: 'edu', bus: 'rp0' })).error?.desc ?? '', /'rp0' has function 0/);
  });
});

test('what the user gets wrong', async t => {
  await served(DEVICES, async vm => {
    const client = await vm.client();
    const before = await client.info('qtree');
    const wrong: readonly [object, RegExp][] = [
      [{ driver: 'nope' }, /'nope' is not a valid device model name/],
      [{ driver: 'edu', bus: 'nope' }, /Bus 'nope' not found/],
      [{ driver: 'edu', bus: 'probe' }, /Bus 'probe' not found/],
      [{ driver: 'edu', bus: 'rp0', id: 'probe' }, /Duplicate device ID 'probe'/],
      [{ driver: 'edu', id: '1x' }, /identifier/],
      [{ driver: 'edu', bus: 'rp0', nope: 1 }, /Property 'edu.nope' not found/],
      [{ driver: 'edu', bus: 'rp0', dma_mask: 'x' }, /dma_mask.*"x"/],
      [{ driver: 'edu', bus: 'rp0', addr: '05.0' }, /link has device 00 only/],
      [{ driver: 'edu', bus: 'rp0', addr: '5x' }, /addr: "5x" is not a PCI address/],
      [{ driver: 'edu', bus: 'rp0', addr: true }, /addr/],
      [{ driver: 'edu', bus: 'main-system-bus' }, /can't go on System bus/],
      [{ driver: 'intel-iommu' }, /does not support hotplugging/],
      [{ driver: 'mch' }, /expects a pluggable device type/],
      [{ driver: 'pci-device' }, /expects a non-abstract device type/],
      [{ driver: 'container' }, /'container' is not a valid device model name/],
    ];
    for (const [args, expected] of wrong) {
      const { error } = await client.ask('device_add', args);
      t.is(error?.class, 'GenericError', JSON.stringify(args));
      t.regex(error?.desc ?? '', expected);
    }
    const kept: readonly [string, RegExp][] = [
      ['/machine/peripheral-anon/device[0]', /^Device 'intel-iommu' does not support hotplugging$/],
      ['/machine/q35', /^Bus 'main-system-bus' does not support hotplugging$/],
      ['/machine/q35/ioapic', /^Bus 'main-system-bus' does not support hotplugging$/],
      ['/machine/unattached/device[0]', /processor/],
      ['/machine/q35/pcie.0', /^\/machine\/q35\/pcie\.0 is not a device$/],
      ['', /^ is not a device$/],
    ];
    for (const [id, expected] of kept) {
      const { error } = await client.ask('device_del', { id });
      t.is(error?.class, 'GenericError', id);
      t.regex(error?.desc ?? '', expected);
    }
    t.is(await client.info('qtree'), before);
    t.deepEqual(client.events, []);
  });
});

test('a machine of many clients: all hear of events, one that vanishes in mid-command does not matter', async t => {
  await served([...DEVICES, 'pcie-root-port,id=rp1'], async vm => {
    const [one, two, lost] = [await vm.client(), await vm.client(), await vm.client()];
    lost.send('{"execute": "query-qmp-schema"} {"execute": "system_reset"} {"execute": "query-');
    lost.vanish();
    await until(() => vm.clients === 2);
    await Promise.all([
      one.run('device_add', { driver: 'edu', id: 'a', bus: 'rp0' }),
      two.run('device_add', { driver: 'edu', id: 'b', bus: 'rp1' }),
    ]);
    t.deepEqual(await one.run('qom-get', { path: 'b', property: 'type' }), 'edu');
    await two.run('device_del', { id: 'a' });
    await one.run('query-status');
    for (const client of [one, two])
      t.deepEqual(
        client.events.filter(each => each.event !== 'RESET').map(each => each.data),
        [{ device: 'a', path: '/machine/peripheral/a' }],
      );
    one.vanish();
    two.vanish();
    await until(() => vm.clients === 0);
  });
});

test('malformed input of all kinds: the machine goes on', async t => {
  await served(DEVICES, async vm => {
    const client = await vm.client();
    const deep = '['.repeat(100_000);
    for (const bad of [
      '{',
      '"',
      '}{',
      '{"execute": }',
      deep,
      '\u0000\u0001',
      '{"execute": "quit"',
      'quit',
      '{"a":'.repeat(2000),
    ]) {
      client.send(`${bad}\n{"execute": "query-name"}\n`);
      let refused = 0;
      for (;;) {
        const message = await client.next();
        if (message?.error === undefined) {
          t.deepEqual(message?.return, { name: 'served' }, bad.slice(0, 20));
          break;
        }
        t.is(message.error.class, 'GenericError');
        refused++;
      }
      // A lone opening brace or quote is told from a value only by what follows.
      t.true(refused >= 1, bad.slice(0, 20));
    }
    t.is(vm.quitBy, undefined);
  });
});

test('the machine `none` has types of machine to tell of, and nothing else', async t => {
  const target = new MachineTarget(undefined, { onQuit: () => {} });
  const [near, far] = duplexPair();
  const session = serveQmp(near, target);
  const client = new QmpClient(far, far);
  await client.next();
  await client.run('qmp_capabilities');
  const machines = (await client.run('query-machines')) as { name: string }[];
  t.deepEqual(
    machines.map(({ name }) => name),
    ['none', 'pc-q35-10.2', 'q35'],
  );
  t.deepEqual(await client.run('query-pci'), []);
  t.is(await client.run('qom-get', { path: '/machine', property: 'type' }), 'none-machine');
  t.deepEqual(await client.run('query-cpus-fast'), []);
  for (const topic of ['qtree', 'mtree', 'pci']) t.is(await client.info(topic), '', topic);
  t.is((await client.ask('device_add', { driver: 'edu' })).error?.class, 'GenericError');
  t.deepEqual(await client.run('system_reset'), {});
  session[Symbol.dispose]();
});

test('info mtree, pci and iommu show this machine', async t => {
  await served(DEVICES, async vm => {
    const client = await vm.client();
    vm.machine.config.write('00:06.0', 0x10, 0xfeb0_0000, 4);
    vm.machine.config.write('00:06.0', 0x04, 2, 2);
    t.regex(await client.info('mtree'), /00000000feb00000-00000000febfffff/);
    t.regex(
      await client.info('pci'),
      /PCI device 1234:11e8\r\n(?:.*\r\n)*? +BAR0: 32 bit memory at 0xfeb00000 \[0xfebfffff\]/,
    );
    t.regex(await client.info('iommu'), /^intel-iommu, id ""\r\n(?:.*\r\n)* +gsts: 0x00000000\r\n/);
    const bare = await ServedMachine.open([]);
    const other = await bare.client();
    t.is(await other.info('iommu'), 'no IOMMU\r\n');
    await bare.close();
  });
});
