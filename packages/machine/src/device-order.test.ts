import test from 'ava';
import fc from 'fast-check';
import { inRealizationOrder, type Ordered } from './device-order.js';

const device = (name: string, provides: string[] = [], after: string[] = []): Ordered => ({
  path: name,
  name,
  key: name,
  provides,
  after,
});
const names = (devices: readonly Ordered[]): string[] => devices.map(each => each.name);

const bench = [
  device('zz-iommu', ['iommu']),
  device('rp1', ['bus:rp1'], ['iommu']),
  device('nvme', [], ['iommu', 'bus:rp1']),
  device('edu', [], ['iommu']),
  device('clock'),
];

test('what a device needs comes first, and a key decides the rest', t => {
  t.deepEqual(names(inRealizationOrder(bench)), ['clock', 'zz-iommu', 'edu', 'rp1', 'nvme']);
});

test('the listed order never counts', t => {
  const expected = names(inRealizationOrder(bench));
  fc.assert(
    fc.property(fc.shuffledSubarray(bench, { minLength: bench.length }), shuffled => {
      t.deepEqual(names(inRealizationOrder(shuffled)), expected);
    }),
    { seed: 1 },
  );
});

test('a need that nobody meets is no need', t => {
  t.deepEqual(names(inRealizationOrder([device('edu', [], ['iommu'])])), ['edu']);
});

test('a circle is refused and shown', t => {
  const error = t.throws(
    () =>
      inRealizationOrder([
        device('a', [], ['bus:c']),
        device('b', ['bus:b'], ['bus:c']),
        device('c', ['bus:c'], ['bus:b']),
      ]),
    { name: 'ConfigError' },
  );
  t.is(error.message, 'c: devices need each other in a circle: "c" needs "b" needs "c"');
});

test('a device that needs itself is a circle of one', t => {
  t.throws(() => inRealizationOrder([device('rp1', ['bus:rp1'], ['bus:rp1'])]), {
    message: 'rp1: devices need each other in a circle: "rp1" needs "rp1"',
  });
});
