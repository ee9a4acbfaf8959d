import test from 'ava';
import { ConfigError } from '@remora/core';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { dmaEngine } from './config.js';
import plugin from './plugin.js';

test('the plug-in brings one kind, which the typed helper names', t => {
  const container = new Container();
  container.load(plugin.module);
  const [kind, ...more] = container.getAll<AnyDeviceKind>(DeviceKinds);
  t.deepEqual(more, []);
  t.deepEqual([kind!.id, kind!.bus], ['dma-engine', 'pci']);
  t.deepEqual(dmaEngine({ addr: '03.0' }), { driver: 'dma-engine', options: { addr: '03.0' } });
  t.throws(() => kind!.properties.parse('dma-engine', { speed: '9' }), {
    instanceOf: ConfigError,
    message: /^dma-engine\.speed: /,
  });
});
