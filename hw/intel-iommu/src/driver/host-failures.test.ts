/** Steps that fail halfway: the state before is in force. */
import { Access, Errno } from '@remora/core';
import test from 'ava';
import type { VtdPropagation } from '../device/environment.js';
import { DEVICE, domainOf, flush, Guest, host, PASID, succeed } from './host.test.helper.js';

test('when pages run out, whatever the step, the state before is in force and nothing is lost', t => {
  const { rig, ration, driver } = host();
  const domain = domainOf(driver);
  const guest = new Guest(rig, domain);
  guest.map(1, 0x3100);
  succeed(t, domain.attach(0x18));
  const steps: readonly [name: string, action: () => number][] = [
    ['attach', () => domain.attach(0x1_18)],
    ['bind', () => domain.bindPasid(0x1_18, PASID, guest.config)],
    ['map', () => domain.map(2 ** 30 - 5, 0x3300, 1034, Access.READ)],
    ['map by a large leaf', () => domain.map(2 ** 31, 2 ** 18, 2 ** 18, Access.READ)],
    [
      'map scattered pages',
      () =>
        domain.mapFrames(
          2 ** 29 - 5,
          Int32Array.from({ length: 1034 }, (_, i) => 0x4000 - i),
          Access.READ,
        ),
    ],
    ['split', () => domain.unmap(2 ** 31 + 3, 1)],
  ];
  for (const [name, action] of steps) {
    let allowed = 0;
    for (; ; allowed++) {
      const inUse = rig.pages.inUse;
      const before = JSON.stringify([driver.describe(), [...domain.mappings()]]);
      ration.left = allowed;
      const result = action();
      ration.left = Infinity;
      if (result === 0) break;
      t.is(result, -Errno.ENOMEM, name);
      t.is(rig.pages.inUse, inUse, name);
      t.is(JSON.stringify([driver.describe(), [...domain.mappings()]]), before, name);
    }
    t.true(allowed > 0, name);
  }
  t.like(rig.request(0x1_18, 0x1000, Access.READ, PASID), { to: 0x3101000n });
});

test('a domain for which there is no page: refused, and nothing is lost', t => {
  const { rig, ration, driver } = host();
  const inUse = rig.pages.inUse;
  ration.left = 0;
  t.is(driver.createDomain(), -Errno.ENOMEM);
  ration.left = Infinity;
  t.is(rig.pages.inUse, inUse);
  t.is(domainOf(driver).id, 0x100);
});

test('when the unit refuses a flush the state before is in force', t => {
  let refuse = '';
  const answer = (name: string) => (): number => (refuse === name ? -Errno.EIO : 0);
  const propagation: VtdPropagation = {
    contextCacheInvalidate: answer('context-cache'),
    pasidCacheInvalidate: answer('pasid-cache'),
    pasidIotlbInvalidate: answer('pasid-iotlb'),
    iotlbInvalidate: answer('iotlb'),
  };
  const { rig, driver } = host({}, propagation);
  const domain = domainOf(driver);
  const guest = new Guest(rig, domain);
  guest.map(1, 0x3100);
  succeed(t, domain.attach(DEVICE), domain.bindPasid(DEVICE, PASID, guest.config));
  const before = JSON.stringify([driver.describe(), [...domain.mappings()]]);
  const inUse = rig.pages.inUse;
  const attempts: readonly (readonly [refused: string, action: () => number])[] = [
    ['pasid-cache', () => domain.unbindPasid(DEVICE, PASID)],
    ['pasid-iotlb', () => domain.unbindPasid(DEVICE, PASID)],
    ['pasid-iotlb', () => domain.flushStage1(DEVICE, flush({}))],
    ['iotlb', () => domain.unmap(0x3100, 1)],
    ['iotlb', () => domain.unmap(0, 2 ** 30)],
  ];
  for (const [name, action] of attempts) {
    refuse = name;
    t.is(action(), -Errno.EINVAL, name);
    refuse = '';
    t.is(JSON.stringify([driver.describe(), [...domain.mappings()]]), before, name);
    t.is(rig.pages.inUse, inUse, name);
    t.like(rig.request(DEVICE, 0x1000, Access.READ, PASID), { to: 0x3101000n }, name);
  }
  succeed(t, domain.unbindPasid(DEVICE, PASID));
  for (const name of ['context-cache', 'pasid-cache', 'iotlb']) {
    refuse = name;
    t.is(domain.detach(DEVICE), -Errno.EINVAL, name);
    refuse = '';
    t.like(rig.request(DEVICE, 0x3100_000), { to: 0x3101000n }, name);
  }
  succeed(t, domain.detach(DEVICE));
});

test('a unit in caching mode that refuses a flush keeps nothing new', t => {
  let refuse = '';
  const answer = (name: string) => (): number => (refuse === name ? -Errno.EIO : 0);
  const { rig, driver } = host(
    { 'caching-mode': true },
    {
      contextCacheInvalidate: answer('context-cache'),
      pasidCacheInvalidate: answer('pasid-cache'),
      iotlbInvalidate: answer('iotlb'),
    },
  );
  const domain = domainOf(driver);
  const { config } = new Guest(rig, domain);
  const attempt = (name: string, action: () => number): void => {
    const before = JSON.stringify([driver.describe(), [...domain.mappings()], rig.pages.inUse]);
    refuse = name;
    t.is(action(), -Errno.EINVAL, name);
    refuse = '';
    t.is(JSON.stringify([driver.describe(), [...domain.mappings()], rig.pages.inUse]), before, name);
    succeed(t, action());
  };
  attempt('iotlb', () => domain.map(0x55, 0x3300, 1, Access.READ));
  attempt('iotlb', () => domain.mapFrames(0x57, Int32Array.of(0x3302, 0x3301), Access.READ));
  attempt('context-cache', () => domain.attach(0x18));
  attempt('pasid-cache', () => domain.attach(0x20));
  attempt('pasid-cache', () => domain.bindPasid(0x18, PASID, config));
});
