import test from 'ava';
import { NO_PASID, sectionBytes, sectionFrom, StateReader, StateWriter } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { DeviceTlbChannel, TlbAccess } from './device-tlb-channel.js';
import { OK, priState, tlbSetup, type TlbSetup } from './ats.test.helper.js';
import { enable } from './platform.test.helper.js';

const A = 0x1_0000;
const B = 0x2_0000;
type Setup = ReturnType<typeof tlbSetup>;

/** What a machine saves of a function with a device TLB, as bytes. */
function saved({ fn, tlb, channel }: Setup, waits: boolean): Uint8Array {
  const into = new StateWriter();
  fn.save(into.child('function'));
  tlb.save(into.child('tlb'));
  if (waits) channel.save(into.child('channel'));
  return sectionBytes(into.section);
}

/** Another function like it, with that state. */
function loaded(bytes: Uint8Array, options: TlbSetup = {}): Setup {
  const at = tlbSetup({ pri: true, ...options });
  const from = new StateReader(sectionFrom(bytes, 'state'));
  at.fn.reset();
  at.fn.load(from.child('function'));
  at.tlb.load(from.child('tlb'));
  const channel = from.optional('channel');
  if (channel !== undefined) at.channel.load(channel);
  from.done();
  return at;
}

test('translations are there again, in all PASIDs', t => {
  const at = tlbSetup({ pri: true });
  const places: readonly (readonly [pasid: number, from: number, to: number, shift: number])[] = [
    [NO_PASID, 0x5000, A, 12],
    [7, 0x5000, B, 12],
    [0xf_ffff, 0xffff_ffff_ffff_f000, A, 12],
    [7, 0x70_0012_3000, 0, 36],
  ];
  for (const [pasid, from, to, shift] of places) {
    at.iommu.map(pasid, from, { to, shift });
    t.is(at.read(from, pasid)[0], OK);
  }
  const other = loaded(saved(at, false));
  for (const [pasid, from] of places) t.is(other.read(from, pasid)[0], OK);
  t.deepEqual(other.iommu.asked, []);
  other.flush(7, 0, 64);
  t.is(other.read(0x5000, 7)[0], TlbAccess.WAITING, 'and can be invalidated');
});

test('an access that waits for its response goes on when that comes', t => {
  const at = tlbSetup({ pri: true });
  t.is(at.read(0x5000, 3)[0], TlbAccess.WAITING);
  const other = loaded(saved(at, true));
  t.deepEqual([other.tlb.outstanding, other.iommu.requests.length], [1, 0]);
  other.memory(A, 0xaa);
  other.iommu.map(3, 0x5000, { to: A });
  other.tlb.pageResponse(4, 0, PageResponse.SUCCESS);
  t.deepEqual([other.resumed.length, priState(other.fn).unexpected], [0, 1]);
  other.tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.is(other.resumed.length, 1);
  t.deepEqual(other.read(0x5000, 3), [OK, 0xaa]);
  other.read(0x6000, 3);
  t.is(other.iommu.requests[0]!.group, 1, 'indices go on, too');
});

test('one that waits for room is asked for when there is room', t => {
  const at = tlbSetup({ pri: true, allocation: 1 });
  const other = new DeviceTlbChannel(at.fn, at.tlb, () => undefined);
  other.read(0, 0x9000, new Uint8Array(4), 3);
  t.is(at.read(0x5000, 3)[0], TlbAccess.WAITING);
  const then = loaded(saved(at, true), { allocation: 1 });
  t.is(then.iommu.requests.length, 0);
  then.tlb.pageResponse(3, 0, PageResponse.SUCCESS);
  t.like(then.iommu.requests[0], { lo: 0x5000, pasid: 3 });
  t.is(priState(then.fn).unexpected, 0, 'the response to the other was expected');
});

test('one that tries again later does so then', t => {
  const at = tlbSetup({ pri: true });
  at.iommu.onPageRequest = ({ group }) => (at.tlb.pageResponse(3, group, PageResponse.SUCCESS), true);
  t.is(at.read(0x5000, 3)[0], TlbAccess.WAITING);
  at.clock.step(400_000);
  const other = loaded(saved(at, true));
  other.clock.step(599_999);
  t.is(other.resumed.length, 0);
  other.clock.step(1);
  t.is(other.resumed.length, 1);
  t.is(other.read(0x5000, 3)[0], TlbAccess.WAITING);
  t.is(other.iommu.requests.length, 1);
});

test('an interface that failed is still off', t => {
  const at = tlbSetup({ pri: true });
  at.read(0x5000, 3);
  at.tlb.pageResponse(3, 0, PageResponse.FAILURE);
  at.channel.cancel();
  const other = loaded(saved(at, false));
  enable(other.fn);
  t.false(other.fn.priEnabled);
  t.is(other.read(0x5000, 3)[0], 4);
  t.deepEqual(other.iommu.requests, []);
});

test('an invalidation that is not complete is done when it would have been, and completed if it is sent again', t => {
  const slow = { pri: true, invalidateLatency: 10 };
  const at = tlbSetup(slow);
  for (const page of [0x5000, 0x6000]) {
    at.iommu.map(NO_PASID, page, { to: A });
    t.is(at.read(page)[0], OK);
    t.false(at.tlb.invalidate(NO_PASID, false, 0, page, 12, () => t.fail('of another machine')));
    at.clock.step(4);
  }
  const other = loaded(saved(at, false), slow);
  const completed: number[] = [];
  const done = (page: number) => (): void => void completed.push(page, other.clock.now);
  t.false(other.tlb.invalidate(NO_PASID, false, 0, 0x6000, 12, done(0x6000)));
  t.is(other.read(0x5000)[0], OK, 'until then the old translation is used');
  t.deepEqual(other.iommu.asked, []);
  other.clock.step(2);
  t.is(other.read(0x5000)[0], TlbAccess.WAITING, 'nobody waits for this one, but it is done');
  t.is(other.read(0x6000)[0], OK);
  other.clock.step(100);
  t.deepEqual(completed, [0x6000, 6]);
  t.false(other.tlb.invalidate(NO_PASID, false, 0, 0x6000, 12, done(1)));
  other.clock.step(10);
  t.deepEqual(completed, [0x6000, 6, 1, 112], 'a new one takes its time');
});
