/** Devices that keep translations of their own, behind page tables of user space: flushed with the unit's caches, not by a call of their own. */
import test, { type ExecutionContext } from 'ava';
import { NO_PASID } from '@remora/core';
import { owner } from '@remora/testing';
import { IommuHwptAllocFlag } from '@remora/uapi';
import { EngineError } from '@hw/dma-engine';
import { ENGINES, RawHost } from './raw-host.js';

const { NEST_PARENT, PASID } = IommuHwptAllocFlag;
const IN = 0x5_0000;

function raw(t: ExecutionContext): RawHost {
  return owner(t)(new RawHost({ 'device-iotlb': true }, { ats: true }));
}

/** Which of the guest's pages a command of the engine reaches; undefined if it fails. */
function target(at: RawHost, page: number, pages: readonly number[], pasid?: number): number | undefined {
  for (const each of pages) at.setGuest(each, 0);
  return at.fill(page, 0x5a, pasid) === EngineError.NONE ? pages.find(each => at.guest(each) === 0x5a) : undefined;
}

for (const pasid of [NO_PASID, 5]) {
  test(`a guest's own table, ${pasid === NO_PASID ? 'without PASID' : 'at a PASID'}: stale until it is invalidated, page by page and as a whole`, t => {
    const at = raw(t);
    const { user, devices, ioas, host } = at;
    const parent = user.hwpt(devices[0].id, ioas, { flags: NEST_PARENT });
    const stage1 = at.stage1();
    stage1.map(IN, 10);
    stage1.map(IN + 1, 11);
    const hwpt = at.nested(parent, stage1, PASID);
    t.is(user.attach(devices[0].fd, hwpt, pasid === NO_PASID ? undefined : pasid), 0);
    t.true(host.function(ENGINES[0]).atsEnabled);
    const reached = (): (number | undefined)[] => [
      target(at, IN, [10, 20], pasid),
      target(at, IN + 1, [11, 21], pasid),
    ];
    t.deepEqual(reached(), [10, 11]);
    stage1.map(IN, 20);
    stage1.map(IN + 1, 21);
    t.deepEqual(reached(), [10, 11], 'nobody said anything');
    t.is(at.invalidate(hwpt, { addr: IN * 4096 }).result, 0);
    t.deepEqual(reached(), [20, 11]);
    t.is(at.invalidate(hwpt, { npages: 2n ** 64n - 1n }).result, 0);
    t.deepEqual(reached(), [20, 21]);
  });
}

test('what the address space loses, and what is replaced or detached, is out of the device', t => {
  const at = raw(t);
  const { user, devices, ioas, host } = at;
  const [{ fd, id }] = devices;
  const parent = user.hwpt(id, ioas, { flags: NEST_PARENT | PASID });
  const stage1 = at.stage1();
  stage1.map(5, 12);
  const nested = at.nested(parent, stage1, PASID);
  t.is(user.attach(fd, parent), 0);
  t.is(user.attach(fd, nested, 9), 0);
  t.deepEqual([target(at, 5, [5, 12]), target(at, 5, [5, 12], 9)], [5, 12]);
  t.is(user.attach(fd, nested), 0);
  t.is(user.attach(fd, parent, 9), 0);
  t.deepEqual([target(at, 5, [5, 12]), target(at, 5, [5, 12], 9)], [12, 5], 'replaced');
  t.is(user.unmap(ioas, 0, 2n ** 64n - 1n), 0);
  t.deepEqual([target(at, 5, [5, 12]), target(at, 5, [5, 12], 9)], [undefined, undefined]);
  t.is(user.detach(fd), 0);
  t.is(user.detach(fd, 9), 0);
  t.false(host.function(ENGINES[0]).atsEnabled, 'a device that nothing serves asks for nothing');
});
