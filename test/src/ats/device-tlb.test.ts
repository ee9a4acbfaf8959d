/** A device's own translations, in a machine: what stays after which flush. */
import test from 'ava';
import { Access, Errno, MemTx } from '@remora/core';
import { createMachine } from '@remora/machine';
import { Guest, GuestAts } from '@remora/machines';
import { owner } from '@remora/testing';
import { EngineError } from '@hw/dma-engine';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { Fault, Fsts, Granularity, QueueErrorRecord, Reg, TranslationType } from '@hw/intel-iommu';
import { iotlbDescriptor, legacyContext, pasidDeviceTlbDescriptor } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import { AT, AtsGuest, BDF, PASID, REQUESTER, SPACES } from './ats-guest.js';

const SECOND = 1_000_000_000;

for (const space of SPACES) {
  const name = space === undefined ? 'without PASID' : 'with PASID';

  test(`${name}: a translation survives the flush of the IOTLB, and goes with the flush of the device TLB`, t => {
    const at = owner(t)(new AtsGuest());
    const [first, second] = [at.page(space, AT), at.guest.page()];
    t.true(at.fill(space, AT, 1).ok);
    at.map(space, AT, second);
    at.flushIotlb(space);
    t.true(at.fill(space, AT, 2).ok);
    t.deepEqual([at.byte(first), at.byte(second)], [2, 0], 'the old page is written');
    t.is(at.flushDeviceTlb(space, AT), 0);
    t.true(at.fill(space, AT, 3).ok);
    t.deepEqual([at.byte(first), at.byte(second)], [2, 3]);
  });

  test(`${name}: with ATS disabled the flush of the IOTLB is enough`, t => {
    const at = owner(t)(new AtsGuest({ ats: false }));
    const [first, second] = [at.page(space, AT), at.guest.page()];
    t.true(at.fill(space, AT, 1).ok);
    at.map(space, AT, second);
    at.flushIotlb(space);
    t.true(at.fill(space, AT, 2).ok);
    t.deepEqual([at.byte(first), at.byte(second)], [1, 2]);
  });

  test(`${name}: after both flushes a page that is gone cannot be reached`, t => {
    const at = owner(t)(new AtsGuest({ allocation: 0 }));
    const frame = at.page(space, AT);
    t.true(at.fill(space, AT, 1).ok);
    at.unmap(space, AT);
    at.flushIotlb(space);
    t.true(at.fill(space, AT, 2).ok, 'the flush of the IOTLB alone does not stop the device');
    t.is(at.flushDeviceTlb(space, AT), 0);
    t.like(at.fill(space, AT, 3), { ok: false, error: EngineError.MEMORY, result: MemTx.ACCESS_ERROR });
    t.is(at.byte(frame), 2);
    t.deepEqual(at.guest.iommu.handleFaults(), [], 'that nothing is there is no fault of a translation request');
  });

  test(`${name}: a range of pages goes, and those beside it stay`, t => {
    const at = owner(t)(new AtsGuest({ allocation: 0 }));
    const base = Math.floor(AT / 8) * 8;
    const pages = Array.from({ length: 8 }, (_, index) => base + index);
    for (const page of pages) at.page(space, page);
    const reached = (): boolean[] => pages.map(page => at.fill(space, page, 1).ok);
    t.deepEqual(reached(), new Array(8).fill(true));
    for (const page of pages) at.unmap(space, page);
    at.flushIotlb(space);
    t.is(at.flushDeviceTlb(space, base + 3, 13), 0);
    t.deepEqual(reached(), [true, true, false, false, true, true, true, true]);
    t.is(at.flushDeviceTlb(space, base + 4, 14), 0);
    t.deepEqual(reached(), [true, true, false, false, false, false, false, false]);
    t.is(at.flushDeviceTlb(space, 0, 64), 0);
    t.deepEqual(reached(), new Array(8).fill(false));
  });
}

test('types 3 and 8 do not touch each other’s translations; the global form takes every PASID', t => {
  const at = owner(t)(new AtsGuest({ allocation: 0 }));
  for (const space of SPACES) at.page(space, AT);
  const reached = (): boolean[] => SPACES.map(space => at.fill(space, AT, 1).ok);
  t.deepEqual(reached(), [true, true]);
  for (const space of SPACES) {
    at.unmap(space, AT);
    at.flushIotlb(space);
  }
  t.is(at.guest.iommu.pasidDeviceTlbInvalidate(REQUESTER, PASID + 1), 0);
  t.deepEqual(reached(), [true, true], 'another PASID');
  t.is(at.guest.iommu.invalidate(pasidDeviceTlbDescriptor(REQUESTER, PASID + 1, 0, 0, 64, true)), 0);
  t.deepEqual(reached(), [false, true], 'all PASIDs');
  t.is(at.flushDeviceTlb(undefined, AT), 0);
  t.deepEqual(reached(), [false, false]);
});

test('a page that may only be read is not written, and reading goes on', t => {
  const at = owner(t)(new AtsGuest({ allocation: 0 }));
  const frame = at.page(PASID, AT);
  const to = at.page(PASID, AT + 1);
  at.map(PASID, AT, frame, Access.READ);
  at.guest.write(frame, Uint8Array.of(0x5a));
  t.true(at.copy(PASID, AT, AT + 1, 4).ok);
  t.is(at.byte(to), 0x5a);
  t.like(at.fill(PASID, AT, 9), { ok: false, failedWrite: true });
  t.is(at.byte(frame), 0x5a);
});

test('a reset of the function empties its device TLB', t => {
  const at = owner(t)(new AtsGuest({ allocation: 0 }));
  const [first, second] = [at.page(PASID, AT), at.guest.page()];
  t.true(at.fill(PASID, AT, 1).ok);
  at.map(PASID, AT, second);
  at.flushIotlb(PASID);
  at.vm.functions('engine')[0]!.reset();
  const engine = at.guest.engine('00:05.0');
  at.setUpFunction(true, 0);
  t.true(engine.fill({ pasid: PASID, to: AT * 4096, length: 4, pattern: 0x0202_0202 }).ok);
  t.deepEqual([at.byte(first), at.byte(second)], [1, 2]);
});

test('without DTE the unit refuses to translate for the device, and says so', t => {
  const at = owner(t)(new AtsGuest({ allocation: 0 }));
  const frame = at.page(PASID, AT);
  const { iommu } = at.guest;
  t.is(iommu.contextEntry(REQUESTER, { dte: 0 }), 0);
  t.is(iommu.contextCacheInvalidate(3, 0, REQUESTER), 0);
  t.like(at.fill(PASID, AT, 1), { ok: false, result: MemTx.ACCESS_ERROR });
  t.is(at.byte(frame), 0);
  t.like(iommu.handleFaults()[0], { requesterId: REQUESTER, reason: 0x44 });
});

test('one translation for a large page; it goes when any page of it is invalidated', t => {
  const at = owner(t)(new AtsGuest({ allocation: 0 }));
  const table = at.table(PASID);
  const [base, large] = [Math.floor(AT / 512) * 512, 0xa00];
  t.is(table.map(base, large, 512, Access.READ_WRITE, 21), 0);
  at.vm.ledger.on = true;
  for (const page of [0, 1, 511]) t.true(at.fill(PASID, base + page, page & 0xff).ok);
  const asked = at.vm.ledger.events.filter(
    ({ kind, source }) => kind === 'translation-request' && source.endsWith('engine'),
  );
  t.is(asked.length, 1);
  at.vm.ledger.on = false;
  t.deepEqual(
    [0, 1, 511].map(page => at.byte(large + page)),
    [0, 1, 0xff],
  );
  t.is(table.unmap(base, 512), 0);
  at.flushIotlb(PASID);
  t.true(at.fill(PASID, base + 3, 3).ok);
  t.is(at.flushDeviceTlb(PASID, base + 0x123), 0);
  t.false(at.fill(PASID, base + 3, 4).ok);
  t.is(at.byte(large + 3), 3);
});

test('legacy mode: translation type 1 lets the device keep second-stage translations, type 0 refuses its requests', t => {
  const vm = owner(t)(
    createMachine(undefined, {
      board: 'q35,memory=16M',
      plugins: [q35Plugin, intelIommuPlugin, dmaEnginePlugin],
      devices: ['intel-iommu,device-iotlb=on', 'dma-engine,addr=05.0,ats=on'],
    }),
  );
  vm.start();
  const guest = new Guest(vm, { mode: 'legacy' });
  const { iommu } = guest;
  const table = guest.secondStage();
  const allowed = legacyContext(table, 5, { tt: TranslationType.ATS });
  iommu.start(undefined, () => iommu.attach(REQUESTER, allowed));
  new GuestAts(vm, BDF).enable();
  const engine = guest.engine(BDF);
  const fill = (value: number): boolean => engine.fill({ to: AT * 4096, length: 4, pattern: value * 0x0101_0101 }).ok;
  const [first, second] = [guest.page(), guest.page()];
  const bytes = (): number[] => [first, second].map(frame => guest.read(frame, 1)[0]!);
  t.is(table.map(AT, first, 1, Access.READ_WRITE), 0);
  t.true(fill(1));
  t.is(table.unmap(AT, 1), 0);
  t.is(table.map(AT, second, 1, Access.READ_WRITE), 0);
  t.is(iommu.iotlbInvalidate(Granularity.DOMAIN, 5), 0);
  t.true(fill(2));
  t.deepEqual(bytes(), [2, 0]);
  t.is(iommu.deviceTlbInvalidate(REQUESTER), 0);
  t.true(fill(3));
  t.deepEqual(bytes(), [2, 3]);
  t.is(iommu.contextEntry(REQUESTER, legacyContext(table, 5)), 0);
  t.is(iommu.contextCacheInvalidate(Granularity.DEVICE, 5, REQUESTER), 0);
  t.false(fill(4), 'not even with an address that it has');
  t.is(iommu.handleFaults()[0]?.reason, Fault.LCT_5);
  t.deepEqual(bytes(), [2, 3]);
});

test('a slow device: the wait is completed after the invalidation; until then the old translation is in use', t => {
  const at = owner(t)(new AtsGuest({ engine: { 'x-invalidate-latency': SECOND } }));
  const [first, second] = [at.page(PASID, AT), at.guest.page()];
  t.true(at.fill(PASID, AT, 1).ok);
  at.map(PASID, AT, second);
  at.flushIotlb(PASID);
  const { queue } = at.guest.iommu;
  t.is(at.flushDeviceTlb(PASID, AT), -Errno.EIO, 'however long the driver polls');
  t.true(at.fill(PASID, AT, 2).ok);
  t.deepEqual([at.byte(first), at.byte(second)], [2, 0]);
  const pending = queue.head;
  t.not(pending, queue.tail);
  at.vm.clock.step(SECOND);
  t.is(queue.head, queue.tail, 'the queue went on');
  t.true(at.fill(PASID, AT, 3).ok);
  t.deepEqual([at.byte(first), at.byte(second)], [2, 3]);
  t.is(at.guest.registers.read32(Reg.FSTS) & (Fsts.ITE | Fsts.IQE | Fsts.ICE), 0);
});

test('a device that takes more than a minute: ITE names it, the wait is never completed, and the queue goes on when told', t => {
  const at = owner(t)(new AtsGuest({ engine: { 'x-invalidate-latency': 90 * SECOND } }));
  const { iommu, registers } = { iommu: at.guest.iommu, registers: at.guest.registers };
  const status = at.guest.page();
  const stamp = (data: number): Int32Array => {
    const words = new Int32Array(8);
    words.set([0x25, data, status * 4096, 0]);
    return words;
  };
  const [first, second] = [at.page(PASID, AT), at.guest.page()];
  t.true(at.fill(PASID, AT, 1).ok);
  at.map(PASID, AT, second);
  at.flushIotlb(PASID);
  iommu.queue.post(pasidDeviceTlbDescriptor(REQUESTER, PASID, 0, 0, 64), stamp(0x11));
  at.vm.clock.step(60 * SECOND - 1);
  t.is(registers.read32(Reg.FSTS) & Fsts.ITE, 0);
  at.vm.clock.step(1);
  t.not(registers.read32(Reg.FSTS) & Fsts.ITE, 0);
  const record = new Int32Array(2);
  registers.read64(Reg.IQERCD, record);
  t.is(QueueErrorRecord.fields.itesid.get(record, 0), REQUESTER);
  // Stopped: what is queued now is not executed.
  iommu.queue.post(stamp(0x22));
  t.is(at.byte(status), 0);
  t.true(at.fill(PASID, AT, 2).ok);
  t.deepEqual([at.byte(first), at.byte(second)], [2, 0], 'the device still uses the old page');
  t.true(iommu.queue.recoverFromTimeout());
  t.is(iommu.queue.timedOut, REQUESTER);
  t.is(at.byte(status), 0x22, 'the queue went on, past the wait that was given up');
  at.vm.clock.step(30 * SECOND);
  t.not(registers.read32(Reg.FSTS) & Fsts.ICE, 0, 'a completion that nobody waits for');
  t.true(iommu.queue.recoverFromTimeout());
  t.is(registers.read32(Reg.FSTS) & (Fsts.ICE | Fsts.ITE), 0);
  t.true(at.fill(PASID, AT, 3).ok);
  t.is(at.byte(second), 3, 'though late, the invalidation was done');
  t.is(iommu.invalidate(iotlbDescriptor(1, 0, { reads: true, writes: true })), 0);
});
