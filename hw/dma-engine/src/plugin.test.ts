import test from 'ava';
import { ConfigError } from '@remora/core';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { dmaEngine, dmaEngineProperties } from './config.js';
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

test('what needs a device TLB is refused without one', t => {
  const parse = (input: Record<string, unknown>): unknown => dmaEngineProperties.parse('dma-engine', input);
  t.like(parse({}), { ats: false, pri: false, 'x-invalidate-latency': 0 });
  t.like(parse({ ats: 'on', pri: 'on', 'x-invalidate-latency': '5' }), { ats: true, pri: true });
  for (const [option, value] of [
    ['pri', 'on'],
    ['x-invalidate-latency', '1'],
  ] as const) {
    t.throws(() => parse({ [option]: value }), {
      instanceOf: ConfigError,
      message: `dma-engine.${option}: needs a device TLB: set ats=on`,
    });
  }
});
