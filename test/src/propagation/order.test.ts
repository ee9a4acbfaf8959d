/** Descriptors between two waits: done in order, and waited for until the host has answered. */
import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { waitDescriptor } from '@hw/intel-iommu/driver';
import { bind, BIND, CACHE_INVALIDATE, flushPages, flushPasid, unbind } from '../behaviours/host-bytes.js';
import { Rig } from '../rig/rig.js';
import { pattern, SharedSpace } from './shared-space.js';

const PAGE = 4096;
const AT = 0x1_0000_0000;
const DONE = 0x600d_f1a6;

/** A wait that writes to a page of its own, and what is there now. */
function watch(rig: Rig): { readonly wait: Int32Array; status(): number } {
  const frame = rig.guest.page();
  return {
    wait: waitDescriptor({ statusData: DONE, statusHi: 0, statusLo: frame * PAGE }),
    status: () => new DataView(rig.guest.read(frame, 4).buffer).getUint32(0, true),
  };
}

test('a wait completes only after every host call before it has returned', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const other = new SharedSpace(rig, { engine: space.engine });
  other.enter();
  const { wait, status } = watch(rig);
  const during: number[] = [];
  // Sees every call and lets it through.
  rig.plan.arm({ result: 0, when: () => during.push(status()) === 0 });
  rig.take();
  const { descriptor, guest } = rig;
  const flush = descriptor.pasidIotlb(2, 7, space.pasid);
  t.is(guest.iommu.queue.submit(flush, descriptor.pasidCache(1, 7, other.pasid), wait), 0);
  t.deepEqual(during, [0, 0]);
  t.is(status(), DONE);
  t.deepEqual(rig.take(), [flushPasid(space.pasid), bind(other.pasid, { root: other.root })]);
});

test('a batch that does several things does them in its order', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const space = new SharedSpace(rig).bind();
  const leaving = new SharedSpace(rig, { engine: space.engine }).bind();
  const joining = new SharedSpace(rig, { engine: space.engine });
  space.page(AT);
  t.true(space.deviceWrites(AT, pattern(16)).ok);
  const fresh = space.remap(AT);
  rig.guest.write(fresh, pattern(16, 2));
  rig.clearEntry(leaving.pasid);
  joining.enter();
  rig.take();
  const { descriptor, guest } = rig;
  const batch = [
    descriptor.pasidIotlb(3, 7, space.pasid, { address: AT * PAGE }),
    descriptor.pasidCache(1, 7, leaving.pasid),
    descriptor.pasidIotlb(2, 7, leaving.pasid),
    descriptor.pasidCache(1, 7, joining.pasid),
    descriptor.pasidIotlb(2, 7, joining.pasid),
  ];
  t.is(guest.iommu.queue.submit(...batch), 0);
  t.deepEqual(rig.take(), [
    flushPages(space.pasid, AT * PAGE, PAGE),
    unbind(leaving.pasid),
    // What is unbound by now needs no flush.
    bind(joining.pasid, { root: joining.root }),
    flushPasid(joining.pasid),
  ]);
  t.deepEqual(space.deviceReads(AT, 16), pattern(16, 2));
  joining.page(AT);
  t.true(joining.deviceWrites(AT, pattern(16)).ok);
  t.is(leaving.deviceReads(AT, 16), undefined);
});

test('a batch stops where the host refuses: what came before is in force, nothing after it is done, no wait completes', t => {
  for (const request of [BIND, CACHE_INVALIDATE]) {
    using rig = new Rig();
    const space = new SharedSpace(rig).bind();
    const [first, second] = [1, 2].map(() => new SharedSpace(rig, { engine: space.engine }));
    for (const each of [space, first!, second!]) each.page(AT);
    t.true(space.deviceWrites(AT, pattern(16)).ok);
    rig.guest.write(space.remap(AT), pattern(16, 2));
    first!.enter();
    second!.enter();
    const { wait, status } = watch(rig);
    const { descriptor, guest } = rig;
    const { queue } = guest.iommu;
    const batch = [
      descriptor.pasidCache(1, 7, first!.pasid),
      descriptor.pasidIotlb(3, 7, space.pasid, { address: AT * PAGE }),
      descriptor.pasidCache(1, 7, second!.pasid),
      wait,
    ];
    const refused = queue.tail + (request === BIND ? 2 : 1);
    rig.plan.arm({ request, nth: request === BIND ? 2 : 1, result: -Errno.EIO });
    t.is(queue.submit(...batch), -Errno.EINVAL);
    t.is(queue.head, refused);
    t.is(status(), 0);
    const flushed = request === BIND;
    t.deepEqual(space.deviceReads(AT, 16), pattern(16, flushed ? 2 : 1));
    t.true(first!.deviceWrites(AT, pattern(16)).ok);
    t.false(second!.deviceWrites(AT, pattern(16)).ok);
    // The queue is stopped for everybody, until the guest has seen to it.
    t.is(queue.submit(descriptor.pasidIotlb(2, 7, first!.pasid)), -Errno.EIO);

    rig.clearError();
    t.is(status(), DONE);
    t.deepEqual(space.deviceReads(AT, 16), pattern(16, 2));
    t.true(second!.deviceWrites(AT, pattern(16)).ok);
  }
});
