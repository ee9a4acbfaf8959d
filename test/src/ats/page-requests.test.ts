/** A device that asks for pages, in a machine: the guest makes them present, withholds its answer, refuses, or does not keep up. */
import test from 'ava';
import { Access, MemTx } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { owner } from '@remora/testing';
import { EngineError } from '@hw/dma-engine';
import { Prs, Reg } from '@hw/intel-iommu';
import { AT, AtsGuest, BDF, PAGE, PASID, REQUESTER, SHARED_DOMAIN, SPACES } from './ats-guest.js';

const MS = 1_000_000;

for (const space of SPACES) {
  const name = space === undefined ? 'without PASID' : 'with PASID';

  test(`${name}: the DMA waits while the response is withheld, and is done after it`, t => {
    const at = owner(t)(new AtsGuest());
    const frame = at.guest.page();
    t.like(at.fill(space, AT, 1), { busy: true, moved: 0 });
    t.is(at.requests.handle(), 1);
    t.deepEqual(at.withheld, [
      {
        requesterId: REQUESTER,
        pasid: space ?? -1,
        hi: Math.floor(AT / 0x10_0000),
        lo: ((AT % 0x10_0000) * PAGE) | 0,
        read: false,
        write: true,
        execute: false,
        privileged: false,
        group: 0,
        last: true,
      },
    ]);
    at.vm.clock.step(1000 * MS);
    t.true(at.engine.result().busy, 'time does not help');
    at.map(space, AT, frame);
    t.true(at.engine.result().busy, 'nor does the page alone');
    t.is(at.byte(frame), 0);
    at.answer();
    t.like(at.engine.result(), { ok: true, busy: false, moved: 4 });
    t.deepEqual(at.guest.read(frame, 5), Uint8Array.of(1, 1, 1, 1, 0));
    t.deepEqual(at.guest.iommu.handleFaults(), []);
  });

  test(`${name}: a copy over absent pages, of the source and of the target, comes out whole`, t => {
    const at = owner(t)(
      new AtsGuest({
        handler: ({ hi, lo, write }) => {
          const page = (hi >>> 0) * 0x10_0000 + (lo >>> 12);
          const frame = at.page(space, page);
          if (!write) at.guest.write(frame, new Uint8Array(PAGE).fill(page - AT + 1));
          frames.set(page, frame);
          return PageResponse.SUCCESS;
        },
      }),
    );
    const frames = new Map<number, number>();
    const length = 3 * PAGE - 100;
    const pasid = space === undefined ? {} : { pasid: space };
    t.true(at.engine.copy({ ...pasid, from: AT * PAGE + 50, to: (AT + 0x100) * PAGE + 70, length }).busy);
    let handled = 0;
    for (; at.engine.result().busy && handled < 100; handled++) t.is(at.requests.handle(), 1);
    t.like(at.engine.result(), { ok: true, moved: length });
    t.is(handled, 6, 'each page was asked for once');
    const target = (at0: number): Uint8Array => at.guest.read(frames.get(AT + 0x100 + at0)!, PAGE);
    const all = new Uint8Array(3 * PAGE);
    for (const page of [0, 1, 2]) all.set(target(page), page * PAGE);
    const expected = new Uint8Array(3 * PAGE);
    for (let i = 0; i < length; i++) expected[70 + i] = Math.floor((50 + i) / PAGE) + 1;
    t.deepEqual(all, expected);
  });

  for (const [code, what] of [
    [PageResponse.INVALID_REQUEST, '"invalid request"'],
    [PageResponse.FAILURE, '"failure"'],
  ] as const) {
    test(`${name}: ${what} is an error that the device's driver sees, and no byte is moved`, t => {
      const at = owner(t)(new AtsGuest());
      const frame = at.page(space, AT);
      t.true(at.fill(space, AT, 1).ok);
      t.true(
        at.engine.fill({
          ...(space === undefined ? {} : { pasid: space }),
          to: AT * PAGE + 4094,
          length: 8,
          pattern: -1,
        }).busy,
      );
      at.requests.handle();
      at.answer(code);
      t.like(at.engine.result(), {
        ok: false,
        busy: false,
        error: EngineError.PAGE,
        failedWrite: true,
        failedAt: (AT + 1) * PAGE,
        moved: 2,
      });
      t.deepEqual(at.guest.read(frame, 4, 4092), Uint8Array.of(0, 0, 0xff, 0xff));
      t.is(at.ats.pageRequestStatus.failure, code === PageResponse.FAILURE);
      const next = at.fill(space, AT + 1, 2);
      if (code === PageResponse.INVALID_REQUEST) {
        t.true(next.busy, 'the next command asks again');
        return;
      }
      t.like(next, { busy: false, error: EngineError.MEMORY, result: MemTx.ACCESS_ERROR }, 'the interface is off');
      at.ats.disablePageRequests();
      t.true(at.ats.pageRequestStatus.stopped);
      at.ats.enablePageRequests();
      t.true(at.fill(space, AT + 1, 2).busy);
    });
  }
}

test('permission that is missing is asked for', t => {
  const at = owner(t)(new AtsGuest());
  const frame = at.page(PASID, AT);
  at.map(PASID, AT, frame, Access.READ);
  t.true(at.fill(PASID, AT, 1).busy);
  at.requests.handle();
  at.map(PASID, AT, frame);
  at.flushIotlb(PASID);
  at.answer();
  t.true(at.engine.result().ok);
  t.is(at.byte(frame), 1);
});

test('a queue that runs full: the device tries again until there is room, and its DMA is done in the end', t => {
  const at = owner(t)(new AtsGuest({ order: 0 }));
  const fn = at.vm.functions('engine')[0]!;
  // A device out of hand: 127 requests that nobody will wait for fill the queue of 128 entries.
  for (let page = 1; page <= 127; page++) {
    t.true(fn.dma.pageRequest(0, page * PAGE, Access.READ, 100 + page, false, PASID));
  }
  t.is(at.guest.registers.read32(Reg.PRS), Prs.PPR);
  const frame = at.page(PASID, AT);
  at.unmap(PASID, AT);
  at.flushIotlb(PASID);
  t.true(at.fill(PASID, AT, 1).busy);
  t.is(at.guest.registers.read32(Reg.PRS), Prs.PPR | Prs.PRO);
  at.vm.clock.step(3 * MS);
  t.true(at.engine.result().busy);
  t.is(at.requests.handle(), 127);
  t.is(at.guest.registers.read32(Reg.PRS), 0, 'the overflow is over');
  t.is(at.withheld.splice(0).length, 127);
  t.is(at.requests.handle(), 0);
  at.vm.clock.step(MS);
  t.is(at.requests.handle(), 1, 'the engine asked again');
  at.map(PASID, AT, frame);
  at.answer();
  t.true(at.engine.result().ok);
  t.is(at.byte(frame), 1);
  t.is(at.requests.overflows, 1);
});

test('a queue that stays full: the device gives up, and says so', t => {
  const at = owner(t)(new AtsGuest({ order: 0 }));
  const fn = at.vm.functions('engine')[0]!;
  for (let page = 1; page <= 127; page++) fn.dma.pageRequest(0, page * PAGE, Access.READ, 100, false, PASID);
  t.true(at.fill(PASID, AT, 1).busy);
  at.vm.clock.step(1000 * MS);
  t.like(at.engine.result(), { busy: false, error: EngineError.PAGE });
  t.is(at.vm.clock.next(), undefined);
});

test('a PASID that goes while the device waits for one of its pages: the drain refuses it', t => {
  const at = owner(t)(new AtsGuest({ handler: () => PageResponse.INVALID_REQUEST }));
  t.true(at.fill(PASID, AT, 1).busy);
  t.is(at.guest.iommu.removePasid(REQUESTER, PASID), 0);
  t.like(at.engine.result(), { busy: false, error: EngineError.PAGE });
  t.is(at.requests.handle(), 0);
});

test('a PASID that goes takes its translations out of the device', t => {
  const at = owner(t)(new AtsGuest({ handler: () => PageResponse.INVALID_REQUEST }));
  const frame = at.page(PASID, AT);
  t.true(at.fill(PASID, AT, 1).ok);
  t.is(at.guest.iommu.removePasid(REQUESTER, PASID), 0);
  t.true(at.fill(PASID, AT, 2).busy, 'it asks for the page again');
  at.requests.handle();
  t.is(at.engine.result().error, EngineError.PAGE);
  t.is(at.byte(frame), 1);
  t.is(at.guest.iommu.drainPageRequests(REQUESTER, SHARED_DOMAIN, PASID), 0);
});

test('without PRE the unit refuses page requests: the device sees it at once, and the fault is recorded', t => {
  const at = owner(t)(new AtsGuest());
  const { iommu } = at.guest;
  t.is(iommu.contextEntry(REQUESTER, { dte: 1 }), 0);
  t.is(iommu.contextCacheInvalidate(3, 0, REQUESTER), 0);
  t.like(at.fill(PASID, AT, 1), { busy: false, error: EngineError.PAGE });
  t.like(iommu.handleFaults()[0], { requesterId: REQUESTER, reason: 0x47, pasid: PASID });
});

test('a reset while the device waits: nothing comes of the command, and the late answer harms nobody', t => {
  const at = owner(t)(new AtsGuest());
  const frame = at.guest.page();
  t.true(at.fill(PASID, AT, 1).busy);
  at.requests.handle();
  at.vm.functions('engine')[0]!.reset();
  at.map(PASID, AT, frame);
  at.answer();
  const engine = at.guest.engine(BDF);
  t.like(engine.result(), { busy: false, ok: false, error: 0 });
  t.is(at.byte(frame), 0);
  t.true(at.ats.pageRequestStatus.unexpected);
  at.setUpFunction();
  t.true(engine.fill({ pasid: PASID, to: AT * PAGE, length: 4, pattern: 0x0303_0303 }).ok);
  t.is(at.byte(frame), 3);
});

test('unplugged while it waits: the answer finds nobody', t => {
  const at = owner(t)(new AtsGuest());
  const frame = at.guest.page();
  t.true(at.fill(PASID, AT, 1).busy);
  at.requests.handle();
  at.vm.unplug('engine');
  at.map(PASID, AT, frame);
  at.answer();
  t.is(at.byte(frame), 0);
  t.is(at.guest.iommu.wait(), 0);
});
