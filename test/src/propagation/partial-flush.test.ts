/** Several flushes at once over VFIO: a call for each, in the guest's order; one that fails stops the guest's queue where it came from. */
import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { bind, CACHE_INVALIDATE, flushPages, unbind } from '../behaviours/host-bytes.js';
import { Rig } from '../rig/rig.js';
import { SharedSpace } from './shared-space.js';

const AT = 0x1_0000_0000;
const PAGE = 4096;
const PAGES = 4;
const ALL = Array.from({ length: PAGES }, (_, index) => AT + index);

/** A device has read pages that the guest changed then, without a flush. */
class Stale implements Disposable {
  readonly rig: Rig;
  readonly space: SharedSpace;

  constructor(containers = 1) {
    const container = containers > 1 ? ({ container: 'new' } as const) : {};
    this.rig = new Rig({
      functions: [{ addr: '03.0', ...container }, ...(containers > 1 ? [{ addr: '04.0', ...container }] : [])],
    });
    this.space = new SharedSpace(this.rig);
    if (containers > 1) this.space.bind(0, 1);
    else this.space.bind();
    for (const page of ALL) this.rig.guest.write(this.space.page(page), Buffer.from('o'));
    this.seen();
    for (const page of ALL) this.rig.guest.write(this.space.remap(page), Buffer.from('n'));
    this.rig.take();
  }

  /** What the device reads of each page: `o` old, `n` new. */
  seen(): string {
    return ALL.map(page => String.fromCharCode(this.space.deviceReads(page, 1)![0]!)).join('');
  }

  flushes(): Int32Array[] {
    const { space, rig } = this;
    return ALL.map(page => rig.descriptor.pasidIotlb(3, space.did, space.pasid, { address: page * PAGE, leaf: true }));
  }

  /** The host's bytes of the flushes of `pages`. */
  bytes(...pages: readonly number[]) {
    return pages.map(page => flushPages(this.space.pasid, page * PAGE, PAGE, true));
  }

  [Symbol.dispose](): void {
    this.rig[Symbol.dispose]();
  }
}

test('each flush is a call, in the guest’s order', t => {
  const at = owner(t)(new Stale());
  t.is(at.seen(), 'oooo');
  t.is(at.rig.guest.iommu.queue.submit(...at.flushes()), 0);
  t.deepEqual(at.rig.take(), at.bytes(...ALL));
  t.is(at.seen(), 'nnnn');
});

for (let refused = 0; refused < PAGES; refused++) {
  test(`flush ${refused} is refused: those before it are done, none after it; the guest goes on from there`, t => {
    const at = owner(t)(new Stale());
    const { queue } = at.rig.guest.iommu;
    const first = queue.tail;
    at.rig.plan.arm({ request: CACHE_INVALIDATE, nth: refused + 1, result: -Errno.EIO });
    t.is(queue.submit(...at.flushes()), -Errno.EINVAL);
    t.is(queue.head, first + refused);
    t.deepEqual(at.rig.take(), at.bytes(...ALL.slice(0, refused + 1)));
    t.is(at.seen(), 'n'.repeat(refused) + 'o'.repeat(PAGES - refused));
    at.rig.clearError();
    t.deepEqual(at.rig.take(), at.bytes(...ALL.slice(refused)));
    t.is(at.seen(), 'nnnn');
  });
}

test('an unbind behind flushes comes after them, and not at all if one of them is refused', t => {
  const at = owner(t)(new Stale());
  const { rig, space } = at;
  rig.clearEntry(space.pasid);
  rig.plan.arm({ request: CACHE_INVALIDATE, nth: 2, result: -Errno.EIO });
  const unbinding = rig.descriptor.pasidCache(1, space.did, space.pasid);
  t.is(rig.guest.iommu.queue.submit(...at.flushes().slice(0, 2), unbinding), -Errno.EINVAL);
  t.deepEqual(rig.take(), at.bytes(AT, AT + 1));
  t.deepEqual(rig.host.bound(), [space.pasid]);
  rig.clearError();
  t.deepEqual(rig.take(), [...at.bytes(AT + 1), unbind(space.pasid)]);
  t.deepEqual(rig.host.bound(), []);
});

test('a bind between flushes stays between them', t => {
  const at = owner(t)(new Stale());
  const { rig, space } = at;
  const pasid = rig.allocate();
  rig.entry(pasid, { did: 9, root: space.root });
  const [first, second] = at.flushes();
  rig.guest.iommu.queue.submit(first!, rig.descriptor.pasidCache(1, 9, pasid), second!);
  t.deepEqual(rig.take(), [...at.bytes(AT), bind(pasid, { root: space.root }), ...at.bytes(AT + 1)]);
});

test('two containers: each descriptor goes to both before the next', t => {
  const at = owner(t)(new Stale(2));
  const { rig } = at;
  const [first, second] = at.flushes();
  const log = (): number[] => rig.descriptorsOf(CACHE_INVALIDATE);
  rig.guest.iommu.queue.submit(first!, second!);
  const fds = log();
  t.is(new Set(fds).size, 2);
  t.deepEqual(fds.slice(0, 2), fds.slice(2));
  t.deepEqual(rig.take(), at.bytes(AT, AT, AT + 1, AT + 1));
  rig.plan.arm({ request: CACHE_INVALIDATE, nth: 1, result: -Errno.EIO });
  t.is(rig.guest.iommu.queue.submit(first!, second!), -Errno.EINVAL);
  t.deepEqual(rig.take(), at.bytes(AT, AT), 'the other container is told all the same, the next flush is not sent');
});
