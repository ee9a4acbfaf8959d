import { Config } from '@remora/pci';
import test from 'ava';
import { TestClient } from '../client.test.helper.js';
import { checkValue } from '../schema/check.js';
import { COMMANDS, EVENTS } from '../schema/commands.js';
import { FakeTarget } from '../target.test.helper.js';

/** A client that checks every reply against the schema. */
async function rig(): Promise<{
  target: FakeTarget;
  client: TestClient;
  run: TestClient['run'];
  fail: TestClient['fail'];
}> {
  const target = new FakeTarget();
  const client = await TestClient.ready(target);
  const run: TestClient['run'] = async (command, args) => {
    const reply = await client.run(command, args);
    checkValue(COMMANDS[command as keyof typeof COMMANDS].ret, command, reply);
    return reply;
  };
  return { target, client, run, fail: (command, args) => client.fail(command, args) };
}

test('what there is to know without a machine', async t => {
  const { run, target } = await rig();
  t.deepEqual(await run('query-name'), { name: 'fake' });
  t.deepEqual(await run('query-kvm'), { enabled: false, present: false });
  t.deepEqual(await run('query-target'), { arch: 'x86_64' });
  t.deepEqual(await run('query-machines'), target.machines);
  t.deepEqual(await run('query-machines', { 'compat-props': true }), [{ ...target.machines[0], 'compat-props': [] }]);
  t.deepEqual(await run('query-cpus-fast'), [
    {
      'cpu-index': 0,
      'qom-path': '/machine/cpu',
      'thread-id': 7,
      props: { 'socket-id': 0, 'core-id': 0, 'thread-id': 0 },
      target: 'x86_64',
    },
  ]);
  const commands = (await run('query-commands')) as { name: string }[];
  t.deepEqual(commands.map(({ name }) => name).sort(), Object.keys(COMMANDS).sort());
});

test('stop and cont change the state', async t => {
  const { run } = await rig();
  t.deepEqual(await run('query-status'), { status: 'prelaunch', running: false });
  t.deepEqual(await run('cont'), {});
  t.deepEqual(await run('query-status'), { status: 'running', running: true });
  t.deepEqual(await run('stop'), {});
  t.deepEqual(await run('query-status'), { status: 'paused', running: false });
});

test('reset and quit are the target’s', async t => {
  const { run, target } = await rig();
  t.deepEqual(await run('system_reset'), {});
  t.deepEqual(await run('quit'), {});
  t.deepEqual(target.log, ['reset host-qmp-system-reset', 'quit host-qmp-quit']);
});

test('arguments: missing, unknown and of another type', async t => {
  const { fail } = await rig();
  t.is(await fail('qom-list'), "GenericError: Parameter 'path' is missing");
  t.is(await fail('qom-list', { path: 5 }), "GenericError: Invalid parameter type for 'path', expected: string");
  t.is(await fail('qom-list', { path: '/', z: 1 }), "GenericError: Parameter 'z' is unexpected");
  t.is(await fail('query-name', { z: null }), "GenericError: Parameter 'z' is unexpected");
  t.is(
    await fail('qom-list-types', { abstract: 1 }),
    "GenericError: Invalid parameter type for 'abstract', expected: boolean",
  );
  t.is(await fail('device_add', {}), "GenericError: Parameter 'driver' is missing");
  const line = { 'command-line': 'info name', 'cpu-index': 1.5 };
  t.is(
    await fail('human-monitor-command', line),
    "GenericError: Invalid parameter type for 'cpu-index', expected: integer",
  );
  t.is(await fail('object-add', { id: 'x' }), "GenericError: Parameter 'qom-type' is missing");
  t.is(
    await fail('object-add', { id: 'x', 'qom-type': 'toString' }),
    "GenericError: Parameter 'qom-type' does not accept value 'toString'",
  );
  t.regex(await fail('constructor'), /^CommandNotFound: /);
});

test('objects by path, and by the end of one', async t => {
  const { run, fail } = await rig();
  t.deepEqual(await run('qom-list', { path: '/machine/peripheral/w0' }), [
    { name: 'type', type: 'string' },
    { name: 'speed', type: 'int' },
    { name: 'size', type: 'uint32' },
    { name: 'registers[0]', type: 'child<memory-region>' },
  ]);
  t.deepEqual(await run('qom-list', { path: 'w0' }), await run('qom-list', { path: '/machine/peripheral/w0/' }));
  t.is(((await run('qom-list', { path: '/' })) as unknown[]).length, 3);
  t.is(await fail('qom-list', { path: '/machine/nothing' }), "DeviceNotFound: Device '/machine/nothing' not found");
  t.is(await fail('qom-list', { path: '' }), "DeviceNotFound: Device '' not found");
  t.is(await fail('qom-list', { path: 'twin' }), "DeviceNotFound: Device 'twin' not found", 'two are called so');
  t.is(await fail('qom-list', { path: '/machine/__proto__' }), "DeviceNotFound: Device '/machine/__proto__' not found");
});

test('objects by their paths, with what can be read of them', async t => {
  const { run, fail } = await rig();
  const [widget, root] = (await run('qom-list-get', { paths: ['w0', '/'] })) as { properties: unknown[] }[];
  t.deepEqual(widget?.properties, [
    { name: 'type', type: 'string', value: 'widget' },
    { name: 'speed', type: 'int', value: 1 },
    { name: 'size', type: 'uint32', value: 4 },
    { name: 'registers[0]', type: 'child<memory-region>', value: '/machine/peripheral/w0/registers[0]' },
  ]);
  t.is(root?.properties.length, 3);
  t.deepEqual(await run('qom-list-get', { paths: [] }), []);
  t.is(
    await fail('qom-list-get', { paths: ['/', '/machine/nothing'] }),
    "DeviceNotFound: Device '/machine/nothing' not found",
  );
  t.is(
    await fail('qom-list-get', { paths: [5] }),
    "GenericError: Invalid parameter type for 'paths[0]', expected: string",
  );
});

test('properties are read, and written where they can be', async t => {
  const { run, fail, target } = await rig();
  t.is(await run('qom-get', { path: 'w0', property: 'type' }), 'widget');
  t.is(await run('qom-get', { path: 'w0', property: 'size' }), 4);
  t.is(await run('qom-get', { path: 'w0', property: 'registers[0]' }), '/machine/peripheral/w0/registers[0]');
  t.is(await fail('qom-get', { path: 'w0', property: 'x' }), "GenericError: Property 'widget.x' not found");
  t.deepEqual(await run('qom-set', { path: 'w0', property: 'speed', value: 9 }), {});
  t.is(target.speed, 9);
  t.is(await run('qom-get', { path: 'w0', property: 'speed' }), 9);
  t.regex(await fail('qom-set', { path: 'w0', property: 'speed', value: 'x' }), /'speed', expected: integer/);
  t.regex(await fail('qom-set', { path: 'w0', property: 'size', value: 5 }), /'widget.size' cannot be set.*realized/);
  t.regex(await fail('qom-set', { path: 'w0', property: 'type', value: 'y' }), /'widget.type' is not writable/);
  t.is(await fail('qom-set', { path: 'w0', property: 'speed' }), "GenericError: Parameter 'value' is missing");
});

test('types, and what devices can be given', async t => {
  const { run, fail } = await rig();
  t.deepEqual(await run('qom-list-types'), [
    { name: 'widget', parent: 'device' },
    { name: 'rng', parent: 'object' },
  ]);
  t.deepEqual(await run('qom-list-types', { implements: 'device', abstract: true }), [
    { name: 'device', abstract: true, parent: 'object' },
    { name: 'widget', parent: 'device' },
  ]);
  t.deepEqual(await run('qom-list-types', { implements: 'user-creatable' }), [{ name: 'rng', parent: 'object' }]);
  t.deepEqual(await run('qom-list-types', { implements: 'nothing' }), []);
  const size = { name: 'size', type: 'uint32', 'default-value': 4 };
  t.deepEqual(await run('device-list-properties', { typename: 'widget' }), [size]);
  t.deepEqual(await run('qom-list-properties', { typename: 'widget' }), [{ name: 'type', type: 'string' }, size]);
  t.regex(await fail('device-list-properties', { typename: 'nope' }), /^DeviceNotFound: /);
  t.regex(await fail('device-list-properties', { typename: 'device' }), /non-abstract device type/);
  t.regex(await fail('device-list-properties', { typename: 'rng' }), /non-abstract device type/);
});

test('devices are added with whatever options, and removed by id or path', async t => {
  const { run, fail, target } = await rig();
  t.deepEqual(await run('device_add', { driver: 'widget', id: 'w1', bus: 'b', size: 5, on: true }), {});
  t.deepEqual(await run('device_del', { id: 'w0' }), {});
  t.deepEqual(await run('device_del', { id: '/machine/peripheral/w0' }), {});
  t.deepEqual(target.log, ['add widget {"id":"w1","bus":"b","size":5,"on":true}', 'remove w0', 'remove w0']);
  t.regex(await fail('device_add', { driver: 'widget', id: '0 bad' }), /'id' expects an identifier/);
  t.is(await fail('device_del', { id: 'nope' }), "DeviceNotFound: Device 'nope' not found");
  t.is(await fail('device_del', { id: 'machine' }), "DeviceNotFound: Device 'machine' not found");
  t.is(await fail('device_del', { id: '/machine/peripheral' }), 'GenericError: /machine/peripheral is not a device');
});

test('objects of users come and go', async t => {
  const { run, fail } = await rig();
  t.deepEqual(await run('object-add', { 'qom-type': 'memory-backend-ram', id: 'm0', size: 4096, merge: false }), {});
  t.deepEqual(await run('object-add', { 'qom-type': 'iothread', id: 't0' }), {});
  t.is(await run('qom-get', { path: '/objects/m0', property: 'size' }), 4096);
  t.is(await run('qom-get', { path: '/objects/m0', property: 'merge' }), false);
  t.deepEqual(await run('qom-set', { path: 't0', property: 'poll-max-ns', value: 5 }), {});
  t.is(await run('qom-get', { path: 't0', property: 'poll-max-ns' }), 5);
  t.regex(await fail('qom-set', { path: 't0', property: 'poll-max-ns', value: 'x' }), /expected: integer/);
  t.regex(await fail('qom-set', { path: 'm0', property: 'size', value: 1 }), /not writable/);
  t.regex(await fail('object-add', { 'qom-type': 'iothread', id: 't0' }), /duplicate property 't0'/);
  t.regex(await fail('object-add', { 'qom-type': 'iothread', id: '/' }), /'id' expects an identifier/);
  t.regex(await fail('object-add', { 'qom-type': 'memory-backend-ram', id: 'm1' }), /'size' is missing/);
  t.regex(await fail('object-add', { 'qom-type': 'iothread', id: 't1', size: 1 }), /'size' is unexpected/);
  t.deepEqual(await run('object-del', { id: 'm0' }), {});
  t.is(await fail('object-del', { id: 'm0' }), "GenericError: object 'm0' not found");
  t.regex(await fail('qom-list', { path: '/objects/m0' }), /^DeviceNotFound/);
});

test('query-pci says what configuration space says now', async t => {
  const { run, target } = await rig();
  const { endpoint, bridge } = target;
  const before = (await run('query-pci')) as { devices: { regions: { address: number }[]; pci_bridge?: object }[] }[];
  t.deepEqual(
    before[0]?.devices[0]?.regions.map(each => each.address),
    [-1, -1, -1],
  );
  t.false('devices' in before[0]!.devices[1]!.pci_bridge!);
  endpoint.config.write(Config.BAR0, 0xfe00_0000, 4);
  endpoint.config.write(Config.BAR0 + 8, 0x8000_0000, 4);
  endpoint.config.write(Config.BAR0 + 12, 0x1, 4);
  endpoint.config.write(Config.BAR0 + 16, 0xc000, 4);
  endpoint.config.write(Config.COMMAND, 3, 2);
  const range = { base: 0xfff0_0000, limit: 0xf_ffff };
  bridge.config.write(Config.SECONDARY_BUS, 1, 1);
  bridge.config.write(Config.SUBORDINATE_BUS, 2, 1);
  bridge.config.write(Config.MEMORY_BASE, 0xfe10, 2);
  bridge.config.write(Config.MEMORY_LIMIT, 0xfe20, 2);
  const memory = { type: 'memory', prefetch: false, mem_type_64: false };
  t.deepEqual(await run('query-pci'), [
    {
      bus: 0,
      devices: [
        {
          bus: 0,
          slot: 1,
          function: 3,
          class_info: { desc: 'NVMe controller', class: 0x0108 },
          id: { vendor: 0x1234, device: 0x11e8, subsystem: 0x77, 'subsystem-vendor': 0x1234 },
          irq_pin: 0,
          qdev_id: 'w0',
          regions: [
            { bar: 0, address: 0xfe00_0000, size: 0x1000, ...memory },
            { bar: 2, address: 0x1_8000_0000, size: 0x4000, type: 'memory', prefetch: true, mem_type_64: true },
            { bar: 4, address: 0xc000, size: 0x20, type: 'io' },
          ],
        },
        {
          bus: 0,
          slot: 3,
          function: 0,
          class_info: { desc: 'PCI bridge', class: 0x0604 },
          id: { vendor: 0x1b36, device: 0xc },
          irq_pin: 0,
          qdev_id: '',
          pci_bridge: {
            bus: {
              number: 0,
              secondary: 1,
              subordinate: 2,
              io_range: { base: 0xf000, limit: 0xfff },
              memory_range: { base: 0xfe10_0000, limit: 0xfe2f_ffff },
              prefetchable_range: range,
            },
            devices: [],
          },
          regions: [],
        },
      ],
    },
  ]);
});

test('query-qmp-schema describes every command and event, and every type that they lead to, once', async t => {
  const { run } = await rig();
  const schema = (await run('query-qmp-schema')) as Record<string, unknown>[];
  const names = schema.map(each => String(each['name']));
  t.is(new Set(names).size, names.length);
  const ofKind = (kind: string): string[] => names.filter((_, index) => schema[index]!['meta-type'] === kind).sort();
  t.deepEqual(ofKind('command'), Object.keys(COMMANDS).sort());
  t.deepEqual(ofKind('event'), Object.keys(EVENTS).sort());
  const members = schema.flatMap(each => [
    ...((each['members'] as object[]) ?? []),
    ...((each['variants'] as object[]) ?? []),
  ]);
  const mentioned = [...schema, ...members].flatMap(each =>
    ['type', 'arg-type', 'ret-type', 'element-type'].flatMap(key => (each as Record<string, string>)[key] ?? []),
  );
  t.deepEqual(
    mentioned.filter(name => !names.includes(name)),
    [],
  );
  const types = names.filter((_, index) => !['command', 'event'].includes(String(schema[index]!['meta-type'])));
  t.deepEqual(
    types.filter(name => !mentioned.includes(name)),
    [],
  );
  const add = schema.find(each => each['name'] === 'device_add')!;
  t.deepEqual(schema.find(each => each['name'] === add['arg-type'])!['members'], [
    { name: 'driver', type: 'str' },
    { name: 'bus', type: 'str', default: null },
    { name: 'id', type: 'str', default: null },
  ]);
});
