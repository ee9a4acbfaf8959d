import test from 'ava';
import { ConfigError } from '@remora/core';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { iommuTestdev } from './config.js';
import plugin from './plugin.js';

test('the plug-in brings one kind, which the typed helper names', t => {
  const container = new Container();
  container.load(plugin.module);
  const [kind, ...more] = container.getAll<AnyDeviceKind>(DeviceKinds);
  t.deepEqual(more, []);
  t.deepEqual([kind!.id, kind!.bus], ['iommu-testdev', 'pci']);
  t.deepEqual(iommuTestdev({ addr: '03.0' }), { driver: 'iommu-testdev', options: { addr: '03.0' } });
  t.throws(() => kind!.properties.parse('iommu-testdev', { speed: '9' }), {
    instanceOf: ConfigError,
    message: /^iommu-testdev\.speed: /,
  });
});
