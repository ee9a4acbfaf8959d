/** smmuv3.md 10.4 and 12.1: what an SMMU's driver refuses to put in force, and what its events look like. */
import test from 'ava';
import { Errno, NO_PASID } from '@remora/core';
import type { HostNestedDomain, HostPagingDomain, HostViommu } from '@remora/iommu';
import { FakeSmmuDriver, smmuEvent } from './fake-smmu-driver.js';
import { SmmuType } from './types.js';

const FUNCTION = 0x108;
const ELSEWHERE = 0x200;
const PAGING = { nestParent: true, dirtyTracking: false, pasid: false, pageRequests: false };
const BYPASS = Uint8Array.from([0x9, ...new Array<number>(15).fill(0)]);

function setUp(driver: FakeSmmuDriver, requesterId = FUNCTION) {
  const parent = driver.user.createPaging(PAGING) as HostPagingDomain;
  const create = driver.user.viommu!.createViommu.bind(driver.user.viommu);
  const vm = create(requesterId, parent, SmmuType.VIOMMU_SMMUV3, new Uint8Array(0), () => 0) as HostViommu;
  const options = { pasid: false, pageRequests: false };
  const nested = vm.createNested!(SmmuType.HWPT_SMMUV3, BYPASS, options) as HostNestedDomain;
  return { parent, vm, nested, user: driver.user, create };
}

test('a guest’s own tables have all PASIDs: they are nested at none, and not beside the host’s', t => {
  const { parent, nested, user } = setUp(new FakeSmmuDriver());
  t.is(user.setDomain(FUNCTION, 5, nested), -Errno.EINVAL);
  t.is(user.setDomain(FUNCTION, 5, parent), 0);
  t.is(user.setDomain(FUNCTION, NO_PASID, nested), -Errno.EBUSY);
  t.is(user.setDomain(FUNCTION, 5, undefined), 0);
  t.is(user.setDomain(FUNCTION, NO_PASID, nested), 0);
});

test('what belongs to another unit is refused', t => {
  const one = setUp(new FakeSmmuDriver());
  const other = setUp(new FakeSmmuDriver({ serves: requesterId => requesterId === ELSEWHERE }), ELSEWHERE);
  t.is(one.user.setDomain(FUNCTION, NO_PASID, other.nested), -Errno.EINVAL);
  t.is(one.user.setDomain(FUNCTION, NO_PASID, other.parent), -Errno.EINVAL);
  t.is(other.user.setDomain(FUNCTION, NO_PASID, other.parent), -Errno.EINVAL);
  t.is(
    one.create(FUNCTION, other.parent, SmmuType.VIOMMU_SMMUV3, new Uint8Array(0), () => 0),
    -Errno.EINVAL,
  );
});

test('a function with several StreamIDs cannot be a virtual device', t => {
  const { vm } = setUp(new FakeSmmuDriver({ streams: () => 2 }));
  t.is(vm.createVirtualDevice(FUNCTION, 0, 1), -Errno.EOPNOTSUPP);
});

test('events have the encodings of the reference', t => {
  const words = (event: Int32Array): string[] =>
    [...new BigUint64Array(event.buffer, 0, 2)].map(word => `0x${word.toString(16)}`);
  const common = { type: 0x10, sid: FUNCTION, address: 0 };
  t.deepEqual(words(smmuEvent(common)), ['0x10800000010', '0x20800000000']);
  t.deepEqual(words(smmuEvent({ ...common, read: false, stage2: true })), ['0x10800000010', '0x28000000000']);
});
