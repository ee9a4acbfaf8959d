/** A lent device asks for a page: its host's unit, the kernel's fault queue, the guest's vIOMMU, the guest, and all the way back. */
import test from 'ava';
import { Access, Errno } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { extendedCapability, type GuestEngine } from '@remora/machines';
import { ExtendedCapability } from '@remora/pci';
import { owner } from '@remora/testing';
import { EngineError } from '@hw/dma-engine';
import { Fsts, Reg } from '@hw/intel-iommu';
import { firstStagePasid } from '@hw/intel-iommu/driver';
import { Rig } from '../rig/rig.js';
import { pattern, SharedSpace } from '../propagation/shared-space.js';
import { BDF, LentEngine } from './lent-engine.js';

const PAGE = 4096;
const AT = 0x1_2345_6000;
const BYTES = Uint8Array.of(1, 1, 1, 1, 0);

/** The engine writes four times the byte 1 at virtual frame AT. */
function fill({ space }: LentEngine, engine: GuestEngine = space.engine) {
  return engine.fill({ pasid: space.pasid, to: AT * PAGE, length: 4, pattern: 0x0101_0101 });
}

test('the device waits for the page, the guest maps it and answers, and the bytes arrive', t => {
  const at = owner(t)(new LentEngine());
  const { rig, space } = at;
  t.like(fill(at), { busy: true, moved: 0 });
  t.is(at.handle(), 1);
  t.like(at.withheld[0], { requesterId: rig.requesterId(), pasid: space.pasid, write: true, read: false, last: true });
  const frame = space.page(AT);
  t.true(space.engine.result().busy, 'the page alone does not help');
  t.is(at.answer(), 0);
  t.like(space.engine.result(), { ok: true, busy: false, moved: 4 });
  t.deepEqual(rig.guest.read(frame, 5), BYTES);
  t.deepEqual([rig.guest.iommu.handleFaults(), rig.host.platform.takeFaults()], [[], []]);
});

test('demand paging: a copy over absent pages comes out whole, each page asked for once', t => {
  const asked: number[] = [];
  const at = owner(t)(
    new LentEngine({
      handler: ({ hi, lo, write }) => {
        const page = (hi >>> 0) * 0x10_0000 + (lo >>> 12);
        asked.push(page);
        frames.set(page, at.space.page(page));
        if (!write) at.rig.guest.write(frames.get(page)!, pattern(PAGE, page - AT));
        return PageResponse.SUCCESS;
      },
    }),
  );
  const frames = new Map<number, number>();
  const { engine, pasid } = at.space;
  const length = 2 * PAGE + 100;
  t.true(engine.copy({ pasid, from: AT * PAGE, to: (AT + 0x100) * PAGE, length }).busy);
  for (let rounds = 0; engine.result().busy && rounds < 20; rounds++) at.handle();
  t.like(engine.result(), { ok: true, moved: length });
  t.deepEqual(asked, [AT, AT + 0x100, AT + 1, AT + 0x101, AT + 2, AT + 0x102]);
  for (const index of [0, 1]) {
    t.deepEqual(at.rig.guest.read(frames.get(AT + 0x100 + index)!, PAGE), pattern(PAGE, index));
  }
});

for (const code of [PageResponse.INVALID_REQUEST, PageResponse.FAILURE]) {
  test(`the guest answers ${code}: the device's driver sees an error, and the host's function can ask on`, t => {
    const at = owner(t)(new LentEngine());
    fill(at);
    at.handle();
    t.is(at.answer(code), 0);
    t.like(at.space.engine.result(), { ok: false, busy: false, error: EngineError.PAGE, moved: 0 });
    // Linux tells the device INVALID_REQUEST in both cases, but the guest's function is off after a failure.
    t.is(at.ats.pageRequestStatus.failure, code === PageResponse.FAILURE);
    const next = fill(at);
    t.is(next.busy, code === PageResponse.INVALID_REQUEST);
    if (code === PageResponse.INVALID_REQUEST) return;
    t.is(next.error, EngineError.PAGE);
    at.ats.disablePageRequests();
    at.ats.enablePageRequests();
    t.true(fill(at).busy);
  });
}

test('requests without PASID travel by the entry of PASID 0', t => {
  const at = owner(t)(new LentEngine());
  const { rig, space } = at;
  const { iommu } = rig.guest;
  iommu.pasidEntry(rig.requesterId(), 0, firstStagePasid(space.table, space.did));
  rig.pasidCache(3, 0, 0);
  t.true(space.engine.fill({ to: AT * PAGE, length: 4, pattern: 0x0101_0101 }).busy);
  t.is(at.handle(), 1);
  t.like(at.withheld[0], { requesterId: rig.requesterId(), pasid: -1 });
  const frame = space.page(AT);
  t.is(at.answer(), 0);
  t.deepEqual(rig.guest.read(frame, 5), BYTES);
});

test('two devices ask at once, in the same group: each is answered for itself', t => {
  const at = owner(t)(new LentEngine({ functions: [{ addr: '03.0' }, { addr: '04.0' }] }));
  const { rig, space } = at;
  const { iommu } = rig.guest;
  iommu.contextEntry(rig.requesterId(1), { dte: 1, pre: 1 });
  rig.contextCache(1);
  at.enable('00:04.0');
  const second = new SharedSpace(rig, { device: 1, pasid: space.pasid, did: 8 }).bind();
  t.true(fill(at).busy);
  t.true(fill(at, second.engine).busy);
  t.is(at.handle(), 2);
  t.deepEqual(
    at.withheld.map(({ requesterId, group }) => [requesterId, group]),
    [
      [rig.requesterId(0), 0],
      [rig.requesterId(1), 0],
    ],
  );
  const frames = [space.page(AT), second.page(AT)];
  at.withheld.reverse();
  t.is(at.answer(), 0);
  t.true(space.engine.result().busy);
  t.true(second.engine.result().ok);
  t.is(at.answer(), 0);
  t.true(space.engine.result().ok);
  for (const frame of frames) t.deepEqual(rig.guest.read(frame, 5), BYTES);
});

test('the host does not take the response: queue error at its descriptor; then it does, and the device goes on', t => {
  const at = owner(t)(new LentEngine());
  const { rig, space } = at;
  const { ledger } = rig.machine;
  ledger.on = true;
  fill(at);
  at.handle();
  const frame = space.page(AT);
  rig.plan.arm({ op: 'write', result: -Errno.EIO });
  t.not(at.answer(), 0);
  t.not(rig.guest.registers.read32(Reg.FSTS) & Fsts.IQE, 0);
  t.true(space.engine.result().busy);
  t.like(ledger.events.find(({ kind }) => kind === 'host-failure')?.data, {
    action: 'page response',
    pasid: space.pasid,
    errno: -Errno.EIO,
  });
  rig.clearError();
  t.like(space.engine.result(), { ok: true, moved: 4 });
  t.deepEqual(rig.guest.read(frame, 5), BYTES);
});

test('a guest that has not enabled page requests of the function is not asked', t => {
  const at = owner(t)(new LentEngine());
  at.ats.disablePageRequests();
  t.like(fill(at), { ok: false, busy: false, error: EngineError.PAGE });
  t.is(at.handle(), 0);
});

test('a guest without PRE reads a fault, and the device an error', t => {
  const at = owner(t)(new LentEngine());
  const { rig } = at;
  rig.guest.iommu.contextEntry(rig.requesterId(), { dte: 1, pre: 0 });
  rig.contextCache(1);
  t.like(fill(at), { ok: false, busy: false, error: EngineError.PAGE });
  const [fault, ...more] = rig.guest.iommu.handleFaults();
  t.like(fault, { reason: 0x47, requesterId: rig.requesterId(), pasid: at.space.pasid });
  t.deepEqual(more, []);
});

for (const [what, act] of Object.entries({
  'the function is unplugged': ({ rig }: LentEngine) => rig.machine.unplug(rig.deviceId()),
  'the machine is reset': ({ rig }: LentEngine) => rig.machine.reset(),
  'the machine ends': ({ rig }: LentEngine) => rig[Symbol.dispose](),
})) {
  test(`${what} while a request waits: the host is answered, and nothing is left there`, t => {
    const own = owner(t);
    const at = own(new LentEngine());
    const { ledger } = at.hostLevel;
    ledger.on = true;
    fill(at);
    at.handle();
    act(at);
    const written = ledger.events.filter(({ data }) => data['name'] === 'write').map(({ data }) => data['bytes']);
    t.deepEqual(
      written.map(bytes => (bytes as Uint8Array)[4]),
      [1],
      'INVALID, once',
    );
  });
}

test('an unbind while a request waits: the host answers it, and the guest’s late response is no error', t => {
  const at = owner(t)(new LentEngine());
  const { rig, space } = at;
  fill(at);
  at.handle();
  space.unbind();
  t.like(space.engine.result(), { ok: false, busy: false });
  t.is(at.answer(), 0);
  t.is(rig.guest.registers.read32(Reg.FSTS) & Fsts.IQE, 0);
});

test('the guest’s function has ATS and PRI only where page requests have a way', t => {
  const own = owner(t);
  const has = (rig: Rig): boolean[] =>
    [ExtendedCapability.ATS, ExtendedCapability.PRI].map(id => extendedCapability(rig.machine, BDF, id) !== undefined);
  t.deepEqual(has(own(new LentEngine()).rig), [true, true]);
  t.deepEqual(has(own(new LentEngine({ asks: false })).rig), [false, false]);
  t.deepEqual(has(own(new Rig())), [false, false]);
});

test('permission that is missing is asked for', t => {
  const at = owner(t)(new LentEngine());
  const { rig, space } = at;
  const frame = space.page(AT, Access.READ);
  t.true(fill(at).busy);
  t.is(at.handle(), 1);
  space.unmap(AT);
  space.map(AT, frame);
  t.is(at.answer(), 0);
  t.deepEqual(rig.guest.read(frame, 5), BYTES);
});
