import test from 'ava';
import { ConfigError } from '@remora/core';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { dsa, dsaProperties } from './config.js';
import plugin from './plugin.js';

test('the plug-in brings one kind, which the typed helper names', t => {
  const container = new Container();
  container.load(plugin.module);
  const [kind, ...more] = container.getAll<AnyDeviceKind>(DeviceKinds);
  t.deepEqual(more, []);
  t.deepEqual([kind!.id, kind!.bus], ['dsa', 'pci']);
  t.deepEqual(dsa({ addr: '03.0', ats: true }), { driver: 'dsa', options: { addr: '03.0', ats: true } });
});

test('what cannot be is refused', t => {
  const parse = (input: Record<string, unknown>): unknown => dsaProperties.parse('dsa', input);
  t.like(parse({ 'work-queues': '2', engines: '1' }), { 'work-queues': 2, engines: 1, pasid: true, ats: false });
  for (const option of ['pri', 'x-invalidate-latency']) {
    t.throws(() => parse({ [option]: option === 'pri' ? 'on' : '1' }), {
      instanceOf: ConfigError,
      message: `dsa.${option}: needs a device TLB: set ats=on`,
    });
  }
  for (const [option, value] of [
    ['work-queues', '17'],
    ['engines', '0'],
    ['queue-size', '65536'],
  ] as const) {
    t.throws(() => parse({ [option]: value }), { instanceOf: ConfigError, message: new RegExp(`^dsa\\.${option}: `) });
  }
});
