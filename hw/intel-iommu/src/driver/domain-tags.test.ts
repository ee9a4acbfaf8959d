/** Domain ids that a kernel chooses, and that several domains share. */
import { Access, Errno } from '@remora/core';
import test from 'ava';
import { Fault } from '../spec/index.js';
import { DEVICE, domainOf, host, succeed } from './host.test.helper.js';

const SECOND = DEVICE + 8;
const TAG = 0x42;
const PAGE = 0x1000;

test('a domain takes another id, which its PASID entries carry', t => {
  const { rig, driver } = host();
  const domain = domainOf(driver);
  succeed(t, domain.setTag(TAG), domain.attach(DEVICE), domain.map(1, 0x3001, 1, Access.READ));
  t.is(domain.id, TAG);
  t.deepEqual(
    driver.describe().functions.map(({ domain: id, pasids }) => [id, pasids[0]!.entry['did']]),
    [[TAG, TAG]],
  );
  t.like(rig.request(DEVICE, PAGE), { to: 0x3001000n });
  t.is(domainOf(driver).id, 0x100, 'the id that it had before is free');
});

test('0 and what the unit has no room for are refused, and so is one that another domain has', t => {
  const { driver } = host();
  const domain = domainOf(driver);
  const other = domainOf(driver);
  for (const tag of [0, 0x1_0000, -1]) t.is(domain.setTag(tag), -Errno.EINVAL);
  t.is(domain.setTag(other.id), -Errno.EBUSY);
  t.is(domain.setTag(other.id, domain), -Errno.EBUSY, 'whoever shares it must have it');
  t.is(domain.id, 0x100);
  succeed(t, domain.setTag(domain.id), domain.setTag(other.id, other));
});

test('behaviour 74: once a function was attached the id stays, also when the function has left', t => {
  const { driver } = host();
  const domain = domainOf(driver);
  succeed(t, domain.attach(DEVICE));
  t.is(domain.setTag(TAG), -Errno.EPERM);
  succeed(t, domain.detach(DEVICE));
  t.is(domain.setTag(TAG), -Errno.EPERM);
  t.is(domain.id, 0x100);
});

test('behaviour 75: an id that two domains share is free when the second of them is gone', t => {
  const { driver } = host();
  const one = domainOf(driver);
  const other = domainOf(driver);
  succeed(t, other.setTag(one.id, one));
  one[Symbol.dispose]();
  const third = domainOf(driver);
  t.not(third.id, other.id);
  t.is(third.setTag(other.id), -Errno.EBUSY);
  other[Symbol.dispose]();
  succeed(t, third.setTag(0x100));
});

test('functions behind one id share what is cached: a flush for one of the domains is a flush for both', t => {
  const { rig, driver } = host();
  const one = domainOf(driver);
  const other = domainOf(driver);
  succeed(t, other.setTag(one.id, one), one.attach(DEVICE), other.attach(SECOND));
  succeed(t, one.map(1, 0x3001, 1, Access.READ));
  t.like(rig.request(DEVICE, PAGE), { to: 0x3001000n });
  t.like(rig.request(SECOND, PAGE), { to: 0x3001000n }, 'from the cache: its own table has nothing there');
  succeed(t, one.unmap(1, 1));
  t.deepEqual(rig.request(SECOND, PAGE), { fault: Fault.SSS_2 });

  const stranger = domainOf(driver);
  succeed(t, stranger.attach(DEVICE + 16), one.map(1, 0x3001, 1, Access.READ));
  t.like(rig.request(DEVICE, PAGE), { to: 0x3001000n });
  t.deepEqual(rig.request(DEVICE + 16, PAGE), { fault: Fault.SSS_2 }, 'another id stands beside it');
});

test('a device TLB that holds what another domain of its id translated loses it with that domain’s page', t => {
  const ats = { hasAts: () => true, enableAts: () => undefined };
  const { rig, driver } = host({ 'device-iotlb': true }, {}, ats);
  const one = domainOf(driver);
  const other = domainOf(driver);
  succeed(t, other.setTag(one.id, one), one.attach(DEVICE), other.attach(SECOND));
  succeed(t, one.map(1, 0x3001, 1, Access.READ));
  rig.takeOperations();
  succeed(t, one.unmap(1, 1));
  t.deepEqual(rig.takeOperations(), [
    'IQT iotlb g=3 dw=1 dr=1 did=0x100, wait sw=1',
    `IQT device-tlb sid=0x${DEVICE.toString(16)} s=1, wait sw=1`,
    `IQT device-tlb sid=0x${SECOND.toString(16)} s=1, wait sw=1`,
  ]);
});
