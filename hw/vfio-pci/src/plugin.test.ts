import test from 'ava';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { vfioPci } from './config.js';
import plugin from './plugin.js';

test('the plug-in brings vfio-pci, which waits for the IOMMU and parses what the typed helper writes', t => {
  const container = new Container();
  container.load(plugin.module);
  const [kind, ...more] = container.getAll<AnyDeviceKind>(DeviceKinds);
  t.deepEqual(more, []);
  const { driver, options } = vfioPci({ host: '3f:00.0', container: 'new' });
  t.is(kind!.id, driver);
  t.deepEqual(kind!.after, ['iommu']);
  t.like(kind!.properties.parse('devices[0]', options), { host: '0000:3f:00.0', container: 'new' });
});
