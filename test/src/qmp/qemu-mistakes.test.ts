/** remora-system-x86_64 and a real QEMU with the same command line: the same mistakes get the same kind of error. */
import type { ExecutionContext } from 'ava';
import { because, both, compared, negotiate, type Pair, withQemu } from './compared.js';
import type { QmpClient } from './qmp-client.js';

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
    await same('device_add', { driver: 'edu' }, true);
    await same('device_add', { driver: 'edu', id: 'x', bus: 'pcie.0' }, true);
    await same('device_add', { driver: 'edu', id: 'probe', addr: '1f.0' }, true);
    await same('device_add', { driver: 'pcie-root-port' }, true);
    await same('device_add', { driver: 'edu', bus: '' }, true);
    await same('device_add', { driver: 'edu', bus: 'probe' }, true);
    await same('device_add', { driver: 'edu', bus: 'main-system-bus' }, true);
    await same('device_add', { driver: 'edu', bus: 'rp0', addr: 'zz' }, false);
    await same('device_add', { driver: 'edu', bus: 'rp0', addr: 256 }, false);
    await same('device_add', { driver: 'edu', bus: 'rp0', dma_mask: 'x' }, false);
    await same('device_add', { driver: 'mch' }, true);
    await same('device_add', { driver: 'ioapic' }, true);
    await same('device_add', { driver: 'pci-device' }, true);
    await same('device_add', { driver: 'container' }, true);
    await same('device_add', { driver: 'memory-backend-ram' }, true);
    await same('device_add', { driver: 5 }, false);
    await same('device_add', { driver: 'nope' }, true);
    await same('device_add', { driver: 'edu', bus: 'nope' }, true);
    await same('device_add', { driver: 'edu', bus: 'rp0', id: 'probe' }, true);
    await same('device_add', { driver: 'edu', bus: 'rp0', nope: 1 }, true);
    await same('device_add', { driver: 'intel-iommu' }, true);
    await same('device_del', { id: 'nope' }, true);
    await same('device_del', { id: '/machine/peripheral' }, true);
    await same('device_del', { id: '/machine/nope' }, true);
    await same('device_del', { id: '' }, true);
    for (const id of ['probe', 'rp0', '/machine/peripheral-anon/device[1]', '/machine/q35/mch'])
      await same('device_del', { id }, true);
    await same('device_del', { id: '/machine/peripheral-anon/device[0]' }, true);
    await same('device_del', { id: '/machine/q35' }, true);
    await same('device_del', { id: '/machine/q35/ioapic' }, true);
    await same('device_del', { id: '/machine/unattached/device[0]' }, false);
    await both(pair, 'device_add', { driver: 'edu', id: 'hot', bus: 'rp0' });
    for (const addr of [undefined, '00.0', '00.1', 8])
      await same('device_add', { driver: 'edu', bus: 'rp0', addr }, false);
    await same('device_add', { driver: 'edu', bus: 'rp0', id: 'hot' }, true);
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

/** Every command that takes arguments, with some that fit. */
const FITTING: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'query-machines': { 'compat-props': false },
  'qom-list': { path: '/machine' },
  'qom-get': { path: 'probe', property: 'type' },
  'qom-set': { path: 'probe', property: 'type', value: 1 },
  'qom-list-types': { implements: 'pci-device', abstract: false },
  'qom-list-properties': { typename: 'edu' },
  'device-list-properties': { typename: 'edu' },
  device_del: { id: 'none' },
  'object-add': { 'qom-type': 'memory-backend-ram', id: 'm', size: 4096 },
  'object-del': { id: 'none' },
  'human-monitor-command': { 'command-line': 'info name', 'cpu-index': 0 },
};
const WITHOUT = ['query-version', 'query-commands', 'query-qmp-schema', 'query-name', 'query-kvm', 'query-target'];
const DOING = ['query-status', 'query-cpus-fast', 'query-pci', 'stop', 'cont', 'system_reset', 'quit'];

withQemu(`each argument left out, of a wrong type, or one too many${because}`, async t => {
  await compared(async pair => {
    await negotiate(pair);
    const same = async (command: string, args: object, worded = true): Promise<void> => {
      const [our, their] = await both(pair, command, args);
      t.truthy(their.error, `${command} ${JSON.stringify(args)}`);
      t.is(our.error?.class, their.error?.class, `${command} ${JSON.stringify(args)}`);
      if (worded) t.deepEqual(our, their, `${command} ${JSON.stringify(args)}`);
    };
    for (const command of [...WITHOUT, ...DOING]) await same(command, { x: 1 });
    for (const [command, fitting] of Object.entries(FITTING)) {
      await same(command, { ...fitting, 'one-more': true });
      for (const [name, value] of Object.entries(fitting)) {
        // QEMU words a wrong size otherwise than any other number.
        const optional = ['compat-props', 'implements', 'abstract', 'cpu-index'].includes(name);
        const without = Object.fromEntries(Object.entries(fitting).filter(([each]) => each !== name));
        if (!optional) await same(command, without);
        const wrong = [
          null,
          [],
          {},
          [value],
          typeof value === 'string' ? 5 : 'five',
          typeof value === 'boolean' ? 0 : true,
        ];
        if (name !== 'value')
          for (const each of wrong) await same(command, { ...fitting, [name]: each }, name !== 'size');
      }
    }
  });
});

withQemu(`ids of every kind come back as they were, with results and with errors${because}`, async t => {
  await compared(async pair => {
    await negotiate(pair);
    const ids = ['1', '-5', '1.5', '"x"', 'null', 'true', '[]', '[1, ["a", {"b": null}]]', '{"id": {"id": 3}}', '""'];
    for (const id of [...ids, '9007199254740993', '18446744073709551615', '1e3'])
      for (const command of [
        '"query-name"',
        '"nope"',
        '5',
        '"query-name", "arguments": {"x": 1}',
        '"query-name", "z": 1',
      ]) {
        const answers = [pair.ours, pair.theirs].map(async client => {
          client.send(`{"execute": ${command}, "id": ${id}}\n`);
          return client.next();
        });
        const [our, their] = await Promise.all(answers);
        t.deepEqual(our, their, `${command} ${id}`);
      }
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
