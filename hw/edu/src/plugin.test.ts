import test from 'ava';
import { ConfigError } from '@remora/core';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { edu, eduProperties } from './config.js';
import plugin from './plugin.js';

test('the plug-in brings one kind, which the typed helper names', t => {
  const container = new Container();
  container.load(plugin.module);
  const [kind, ...more] = container.getAll<AnyDeviceKind>(DeviceKinds);
  t.deepEqual(more, []);
  t.deepEqual([kind!.id, kind!.bus], ['edu', 'pci']);
  t.deepEqual(edu({ addr: '03.0', dma_mask: 0xffff_ffff }), {
    driver: 'edu',
    options: { addr: '03.0', dma_mask: 0xffff_ffff },
  });
});

test('dma_mask: 28 bits by default; text, numbers and bigints of up to 64 bits', t => {
  const mask = (dma_mask?: unknown): string => eduProperties.parse('edu', { dma_mask }).dma_mask;
  t.is(mask(), '0xfffffff');
  t.is(mask('0xFFFFFFFFFFFFFFFF'), '0xffffffffffffffff');
  t.is(mask('4095'), '0xfff');
  t.is(mask(0xffff), '0xffff');
  t.is(mask(2n ** 40n - 1n), '0xffffffffff');
  t.is(mask(mask(0xffff)), '0xffff');
  for (const wrong of ['0x1ffffffffffffffff', 2n ** 64n, -1, 0.5, 'wide', true]) {
    t.throws(() => mask(wrong), {
      instanceOf: ConfigError,
      message: /^edu\.dma_mask: ".*" is not a mask of up to 64 bits/,
    });
  }
});
