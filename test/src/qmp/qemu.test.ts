/** remora-system-x86_64 and a real QEMU with the same command line: what QMP says has the same keys and types. */
import test, { type ExecutionContext } from 'ava';
import type { QmpClient } from './qmp-client.js';
import { qtreeObjects, type QmpMessage } from './qmp-client.js';
import { findQemu, REMORA, SystemProcess } from './real-qemu.js';
import { SchemaAgreement } from './schema-agreement.js';
import { differences, shapeOf } from './shape.js';

const DEVICES = ['intel-iommu', 'edu,id=probe,addr=05.0', 'edu,addr=06.0', 'pcie-root-port,id=rp0,addr=04.0'];
const ARGUMENTS = [
  ...DEVICES.flatMap(device => ['-device', device]),
  ...['-object', 'memory-backend-ram,id=back,size=1M', '-name', 'compared', '-smp', '2'],
];
const found = findQemu();
const withQemu = 'program' in found ? test : test.skip;
const because = 'missing' in found ? ` (skipped: ${found.missing})` : '';

interface Pair {
  readonly ours: QmpClient;
  readonly theirs: QmpClient;
}

/** Starts both with the same command line. Returns their exit statuses, if `body` made them end. */
async function compared(body: (pair: Pair) => Promise<void>, ends = false): Promise<(number | null)[]> {
  if (!('program' in found)) throw new Error(found.missing);
  const programs: SystemProcess[] = [];
  try {
    for (const program of [REMORA, [found.program]]) programs.push(await SystemProcess.start(program, ARGUMENTS));
    await body({ ours: programs[0]!.client, theirs: programs[1]!.client });
    return ends ? await Promise.all(programs.map(program => program.ended())) : [];
  } finally {
    for (const program of programs) await program.close();
  }
}

async function negotiate({ ours, theirs }: Pair): Promise<void> {
  for (const client of [ours, theirs]) await client.run('qmp_capabilities');
}

/** Both answers to one command, errors included. */
async function both({ ours, theirs }: Pair, command: string, args?: object): Promise<[QmpMessage, QmpMessage]> {
  return [await ours.ask(command, args), await theirs.ask(command, args)];
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
    for (const [command, args] of asked) {
      const [our, their] = await both(pair, command, args);
      const what = `${command} ${JSON.stringify(args ?? {})}`;
      const anything = command === 'device-list-properties' ? /default-value$/ : undefined;
      t.deepEqual(
        Object.keys(our).sort(),
        Object.keys(their).sort(),
        `${what}: ${JSON.stringify([our, their]).slice(0, 400)}`,
      );
      t.deepEqual(differences(shapeOf(our), shapeOf(their), anything), [], what);
    }
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
    t.deepEqual(new SchemaAgreement(our.return, their.return).differences, []);
  });
});

withQemu(`mistakes get errors of QEMU's classes${because}`, async t => {
  await compared(async pair => {
    const same = async (command: string, args: object, worded: boolean): Promise<void> => {
      const [our, their] = await both(pair, command, args);
      const what = `${command} ${JSON.stringify(args)}: ${JSON.stringify([our, their])}`;
      t.truthy(their.error, what);
      t.is(our.error?.class, their.error?.class, what);
      if (worded) t.is(our.error?.desc, their.error?.desc, what);
    };
    await same('query-name', {}, true);
    await same('qmp_capabilities', { enable: 'oob' }, true);
    await negotiate(pair);
    await same('qmp_capabilities', {}, true);
    await same('no-such-command', {}, true);
    await same('query-name', { x: 1 }, true);
    await same('qom-list', {}, true);
    await same('qom-list', { path: 5 }, true);
    await same('qom-list', { path: '/', z: 1 }, true);
    await same('qom-list', { path: '/nope' }, true);
    await same('qom-get', { path: 'probe', property: 'nope' }, true);
    await same('qom-get', { path: 'nope', property: 'x' }, true);
    await same('qom-get', { path: 'rp0', property: 'type' }, true);
    await same('qom-set', { path: 'probe', property: 'type', value: 1 }, true);
    await same('qom-set', { path: 'probe', property: 'addr', value: 1 }, false);
    await same('device-list-properties', { typename: 'nope' }, true);
    await same('device-list-properties', { typename: 'device' }, true);
    await same('device_add', {}, true);
    await same('device_add', { driver: 5 }, false);
    await same('device_add', { driver: 'nope' }, true);
    await same('device_add', { driver: 'edu', bus: 'nope' }, true);
    await same('device_add', { driver: 'edu', bus: 'rp0', id: 'probe' }, true);
    await same('device_add', { driver: 'edu', bus: 'rp0', nope: 1 }, true);
    await same('device_add', { driver: 'intel-iommu' }, true);
    await same('device_del', { id: 'nope' }, true);
    await same('device_del', { id: '/machine/peripheral' }, true);
    await same('object-add', { 'qom-type': 'memory-backend-ram' }, true);
    await same('object-add', { 'qom-type': 'nope', id: 'x' }, true);
    await same('object-add', { 'qom-type': 'memory-backend-ram', id: 'x' }, true);
    await same('object-add', { 'qom-type': 'memory-backend-ram', id: 'x', size: 4096, zz: 1 }, true);
    await same('object-del', { id: 'nope' }, true);
    await same('object-del', { id: 'pc.ram' }, false);
    await same('object-add', { 'qom-type': 'memory-backend-ram', id: 'pc.ram', size: 4096 }, true);
    await malformed(t, pair);
  });
});

/** Text that is no request: as many errors, of the same class, before the next reply. */
async function malformed(t: ExecutionContext, { ours, theirs }: Pair): Promise<void> {
  const answers = async (client: QmpClient, text: string): Promise<unknown[]> => {
    client.send(`${text}\n{"execute": "query-name", "id": "end"}\n`);
    const got: unknown[] = [];
    for (let message = await client.next(); message !== undefined; message = await client.next()) {
      got.push(message.error?.class ?? message);
      if (message.error === undefined) break;
    }
    return got;
  };
  const texts = [
    '[1]',
    '5',
    '"x"',
    '{}',
    '{"execute": 5}',
    '{"execute": "x", "y": 1}',
    'foo',
    '{"execute": "x",}',
    '}',
  ];
  for (const text of [...texts, '{"exec-oob": "query-name"}', '{"execute": "query-name", "arguments": []}'])
    t.deepEqual(await answers(ours, text), await answers(theirs, text), text);
}

/** QEMU's device leaves with the reset that follows, ours at once: their order does not count. */
withQemu(`events have the data of QEMU's, and the end the status${because}`, async t => {
  const statuses = await compared(async pair => {
    await negotiate(pair);
    await both(pair, 'device_add', { driver: 'edu', id: 'hot', bus: 'rp0' });
    await both(pair, 'device_del', { id: 'hot' });
    for (const command of ['system_reset', 'cont', 'stop', 'stop', 'cont']) await both(pair, command);
    const clients = [pair.ours, pair.theirs];
    const told = (): string[][] => clients.map(client => client.events.map(eventText).sort());
    while (told().some(each => !each.some(text => text.startsWith('DEVICE_DELETED'))))
      await new Promise(resolve => setTimeout(resolve, 5));
    for (const client of clients) client.send('{"execute": "quit"}\n');
    await Promise.all(clients.map(client => client.next()));
    // A guest whose firmware has begun may reset itself.
    const [ours, theirs] = told().map(each => each.filter(text => !text.includes('"guest":true')));
    t.deepEqual(ours, theirs);
    t.is(ours!.length, 6);
    t.deepEqual(differences(shapeOf(pair.ours.events), shapeOf(pair.theirs.events)), []);
  }, true);
  t.deepEqual(statuses, [0, 0]);
});

function eventText({ event, data }: QmpMessage): string {
  const members = Object.entries(data ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${event} ${JSON.stringify(Object.fromEntries(members))}`;
}
