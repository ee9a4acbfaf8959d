/** remora-system-x86_64 and a real QEMU with the same command line: what QMP says has the same keys and types. */
import type { ExecutionContext } from 'ava';
import { because, both, compared, negotiate, type Pair, withQemu } from './compared.js';
import { allObjects, qtreeObjects, type QmpMessage } from './qmp-client.js';
import { isNewer, SchemaAgreement } from './schema-agreement.js';
import { differences, shapeOf } from './shape.js';

/** Both answer with a result, or both with an error, of the same keys and types. */
async function sameShape(t: ExecutionContext, pair: Pair, command: string, args?: object): Promise<void> {
  const [our, their] = await both(pair, command, args);
  const what = `${command} ${JSON.stringify(args ?? {})}`;
  const anything = command === 'device-list-properties' ? /default-value$/ : undefined;
  const shown = `${what}: ${JSON.stringify([our, their]).slice(0, 400)}`;
  t.deepEqual(Object.keys(our).sort(), Object.keys(their).sort(), shown);
  t.deepEqual(differences(shapeOf(our), shapeOf(their), anything), [], what);
}

withQemu(`the greeting and every reply have the keys and types of QEMU's${because}`, async t => {
  await compared(async pair => {
    t.deepEqual(differences(shapeOf(pair.ours.greeting), shapeOf(pair.theirs.greeting)), []);
    await negotiate(pair);
    const asked: readonly (readonly [string, object?])[] = [
      ['query-version'],
      ['query-commands'],
      ['query-name'],
      ['query-kvm'],
      ['query-target'],
      ['query-machines'],
      ['query-machines', { 'compat-props': true }],
      ['query-status'],
      ['query-cpus-fast'],
      ['query-pci'],
      ['query-qmp-schema'],
      ['qom-list', { path: '/' }],
      ['qom-list', { path: '/machine' }],
      ['qom-list', { path: '/machine/peripheral/probe' }],
      ['qom-list', { path: '/machine/q35/pcie.0' }],
      ['qom-get', { path: 'probe', property: 'type' }],
      ['qom-get', { path: 'probe', property: 'addr' }],
      ['qom-get', { path: 'probe', property: 'legacy-addr' }],
      ['qom-get', { path: 'probe', property: 'parent_bus' }],
      ['qom-get', { path: 'probe', property: 'realized' }],
      ['qom-get', { path: 'probe', property: 'dma_mask' }],
      ['qom-get', { path: '/machine/peripheral-anon/device[0]', property: 'aw-bits' }],
      ['qom-get', { path: '/machine/peripheral-anon/device[0]', property: 'caching-mode' }],
      ['qom-list-types'],
      ['qom-list-types', { implements: 'pci-device', abstract: true }],
      ['qom-list-types', { implements: 'user-creatable' }],
      ['qom-list-properties', { typename: 'edu' }],
      ['device-list-properties', { typename: 'edu' }],
      ['device-list-properties', { typename: 'intel-iommu' }],
      ['object-add', { 'qom-type': 'memory-backend-ram', id: 'm0', size: 0x10_0000 }],
      ['qom-list', { path: '/objects/m0' }],
      ['object-del', { id: 'm0' }],
      ['device_add', { driver: 'edu', id: 'hot', bus: 'rp0' }],
      ['qom-set', { path: '/machine/peripheral-anon/device[0]', property: 'aw-bits', value: 39 }],
      ['human-monitor-command', { 'command-line': 'info qtree' }],
      ['human-monitor-command', { 'command-line': 'info mtree' }],
      ['human-monitor-command', { 'command-line': 'info pci' }],
      ['stop'],
      ['cont'],
      ['query-status'],
      ['system_reset'],
    ];
    for (const [command, args] of asked) await sameShape(t, pair, command, args);
  });
});

const SWITCH = ['pcie-root-port,id=rp1,addr=06.0,port=3', 'x3130-upstream,id=up,bus=rp1', 'edu,id=deep,bus=up'];
const LINES: Readonly<Record<string, readonly string[]>> = {
  'the bare board': [],
  'first-stage translation, devices as JSON': [
    ...['-device', '{"driver": "intel-iommu", "id": "iommu", "x-scalable-mode": true, "x-flts": true}'],
    ...['-device', '{"driver": "edu", "id": "probe", "addr": "05.0", "dma_mask": 4294967295}'],
    ...['-device', '{"driver": "pcie-root-port", "id": "rp0", "addr": "04.0"}'],
    ...['-object', '{"qom-type": "memory-backend-ram", "id": "back", "size": 1048576}'],
  ],
  'caching mode, and a switch': [
    ...['-device', 'intel-iommu,caching-mode=on,device-iotlb=on,aw-bits=39'],
    ...SWITCH.flatMap(device => ['-device', device]),
    ...['-object', 'memory-backend-ram,id=back,size=4K,share=on', '-object', 'iothread,id=io'],
  ],
};

for (const [name, args] of Object.entries(LINES))
  withQemu(`${name}: the same keys and types, before and after a reset${because}`, async t => {
    await compared(
      async pair => {
        await negotiate(pair);
        const paths = [...(await allObjects(pair.ours)).keys()].filter(
          path => !path.includes('[') && path !== '/backend',
        );
        for (const [command, more] of [['cont'], ['stop'], ['system_reset'], ['query-status']] as [string, object?][])
          await sameShape(t, pair, command, more);
        for (const command of ['query-pci', 'query-cpus-fast', 'query-machines']) await sameShape(t, pair, command);
        for (const line of ['info qtree', 'info mtree', 'info pci', 'info status', 'info version'])
          await sameShape(t, pair, 'human-monitor-command', { 'command-line': line });
        for (const path of paths) {
          await sameShape(t, pair, 'qom-list', { path });
          await sameShape(t, pair, 'qom-get', { path, property: 'type' });
        }
      },
      { args },
    );
  });

withQemu(`a device that is plugged while the machine runs${because}`, async t => {
  await compared(async pair => {
    await negotiate(pair);
    const same = async (command: string, args?: object): Promise<void> => {
      const [our, their] = await both(pair, command, args);
      t.deepEqual(our, their, `${command} ${JSON.stringify(args ?? {})}`);
    };
    for (const command of ['cont', 'stop']) await same(command);
    await same('device_add', { driver: 'edu', id: 'hot', bus: 'rp0', dma_mask: 0xffff });
    for (const property of ['type', 'realized', 'hotplugged', 'hotpluggable', 'parent_bus', 'addr', 'dma_mask'])
      await same('qom-get', { path: '/machine/peripheral/hot', property });
    for (const path of ['probe', 'rp0', '/machine/q35', '/machine/q35/mch', '/machine/q35/ioapic'])
      for (const property of ['hotplugged', 'hotpluggable', 'parent_bus', 'realized'])
        await same('qom-get', { path, property });
    await sameShape(t, pair, 'qom-list', { path: 'hot' });
    await sameShape(t, pair, 'query-pci');
    await same('device_del', { id: '/machine/peripheral/hot' });
    t.is((await pair.ours.ask('qom-list', { path: 'hot' })).error?.class, 'DeviceNotFound', 'at once, here');
    await same('device_del', { id: 'probe' });
    await same('device_del', { id: 'rp0' });
  });
});

withQemu(`what names and numbers the same machine, says the same${because}`, async t => {
  await compared(async pair => {
    await negotiate(pair);
    const same = async (command: string, args?: object): Promise<void> => {
      const [our, their] = await both(pair, command, args);
      t.deepEqual(our, their, `${command} ${JSON.stringify(args ?? {})}`);
    };
    await same('query-name');
    await same('query-status');
    for (const [path, property] of [
      ['probe', 'type'],
      ['probe', 'addr'],
      ['probe', 'legacy-addr'],
      ['probe', 'parent_bus'],
      ['probe', 'dma_mask'],
      ['probe', 'hotplugged'],
      ['/machine/peripheral/rp0', 'type'],
      ['/machine/peripheral', 'rp0'],
      ['/machine/peripheral-anon/device[0]', 'type'],
      ['/machine/peripheral-anon/device[0]', 'aw-bits'],
      ['/machine/peripheral-anon/device[1]', 'type'],
      ['/machine/peripheral-anon/device[1]', 'legacy-addr'],
      ['/machine/q35/pcie.0', 'type'],
      ['/machine/peripheral/rp0/rp0', 'type'],
    ])
      await same('qom-get', { path, property });
    for (const path of ['/machine/peripheral', '/machine/peripheral-anon', '/objects']) {
      const lists = (await both(pair, 'qom-list', { path })).map(message => message.return as { name: string }[]);
      const [our, their] = lists.map(list => list.toSorted((a, b) => (a.name < b.name ? -1 : 1)));
      t.deepEqual(our, their, path);
    }
    const shown = [pair.ours, pair.theirs].map(async client => qtreeObjects(await client.info('qtree')));
    const [tree, qemuTree] = (await Promise.all(shown)).map(objects =>
      objects.map(each => Object.values(each).join(' ')),
    );
    t.deepEqual(
      tree!.filter(each => !qemuTree!.includes(each)),
      [],
    );
    for (const each of ['dev probe edu', 'dev  edu', 'dev  intel-iommu', 'dev rp0 pcie-root-port', 'bus rp0 PCIE'])
      t.true(tree!.includes(each), each);
    const places = (await both(pair, 'query-pci')).map(message =>
      (
        message.return as { devices: { slot: number; qdev_id: string; id: { vendor: number; device: number } }[] }[]
      )[0]!.devices
        .filter(({ slot }) => slot < 0x1f)
        .map(({ slot, qdev_id: name, id }) => [slot, name, id.vendor, id.device]),
    );
    t.deepEqual(places[0], places[1]);
  });
});

withQemu(`properties that both have are of the same type, and so are their values${because}`, async t => {
  await compared(async pair => {
    await negotiate(pair);
    for (const path of ['probe', '/machine/peripheral/rp0', '/machine/peripheral-anon/device[0]']) {
      const [ours, theirs] = (await both(pair, 'qom-list', { path })).map(
        message => new Map((message.return as { name: string; type: string }[]).map(({ name, type }) => [name, type])),
      );
      const shared = [...ours!.keys()].filter(name => theirs!.has(name));
      t.true(shared.length >= 8, shared.join(', '));
      for (const property of shared) {
        t.is(ours!.get(property), theirs!.get(property), `${path} ${property}`);
        const [our, their] = await both(pair, 'qom-get', { path, property });
        t.is(typeof our.return, typeof their.return, `${path} ${property}: ${JSON.stringify([our, their])}`);
      }
    }
  });
});

withQemu(`our schema is a part of QEMU's${because}`, async t => {
  await compared(async pair => {
    await negotiate(pair);
    const [our, their] = await both(pair, 'query-qmp-schema');
    const { differences: found } = new SchemaAgreement(our.return, their.return);
    t.deepEqual(
      found.filter(each => !isNewer(each, pair.theirs.greeting)),
      [],
    );
  });
});

/** QEMU's device leaves with the reset that follows, ours at once: their order does not count. */
withQemu(`events have the data of QEMU's, and the end the status${because}`, async t => {
  const statuses = await compared(
    async pair => {
      await negotiate(pair);
      await both(pair, 'device_add', { driver: 'edu', id: 'hot', bus: 'rp0' });
      await both(pair, 'device_del', { id: 'hot' });
      for (const command of ['system_reset', 'cont', 'stop', 'stop', 'cont']) await both(pair, command);
      const clients = [pair.ours, pair.theirs];
      const told = (): string[][] => clients.map(client => client.events.map(eventText).sort());
      while (told().some(each => !each.some(text => text.startsWith('DEVICE_DELETED')))) {
        if (clients.some(client => client.ended)) throw new Error(`one has left: ${told().join('; ')}`);
        await new Promise(resolve => setTimeout(resolve, 5));
      }
      for (const client of clients) client.send('{"execute": "quit"}\n');
      await Promise.all(clients.map(client => client.next()));
      const [ours, theirs] = told();
      t.deepEqual(ours, theirs);
      t.is(ours!.length, 6);
      t.deepEqual(differences(shapeOf(pair.ours.events), shapeOf(pair.theirs.events)), []);
    },
    { ends: true },
  );
  t.deepEqual(statuses, [0, 0]);
});

function eventText({ event, data }: QmpMessage): string {
  const members = Object.entries(data ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${event} ${JSON.stringify(Object.fromEntries(members))}`;
}
