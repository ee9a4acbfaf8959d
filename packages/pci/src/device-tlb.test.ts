import test from 'ava';
import { Access, MemTx, NO_PASID } from '@remora/core';
import { AtsStatus, PageResponse } from '@remora/iommu';
import { DeviceTlb } from './device-tlb.js';
import { TlbAccess } from './device-tlb-channel.js';
import { enableAts, NOTHING, OK, PAGE, tlbSetup } from './ats.test.helper.js';
import { enable, endpoint } from './platform.test.helper.js';

const A = 0x1_0000;
const B = 0x2_0000;

test('a miss asks once; from then on the translation is used, whatever became of it, until it is invalidated', t => {
  const { iommu, memory, read, write, flush } = tlbSetup();
  memory(A + 0x10, 0xaa);
  memory(B + 0x10, 0xbb);
  iommu.map(NO_PASID, 0x5000, { to: A });
  t.deepEqual(read(0x5010), [OK, 0xaa]);
  iommu.map(NO_PASID, 0x5000, { to: B });
  t.deepEqual(read(0x5010), [OK, 0xaa], 'stale');
  t.is(iommu.asked.length, 1);
  t.true(flush(NO_PASID, 0x5000));
  t.deepEqual(read(0x5010), [OK, 0xbb]);
  iommu.unmap(NO_PASID, 0x5000);
  t.is(write(0x5010, 0xcc), OK);
  t.is(memory(B + 0x10), 0xcc);
  flush(NO_PASID, 0x5000);
  t.deepEqual(read(0x5010), NOTHING);
  t.is(memory(B + 0x10), 0xcc);
});

test('each PASID and none have translations of their own', t => {
  const { iommu, memory, read, flush } = tlbSetup();
  const pasids = [NO_PASID, 0, 7, 0xf_ffff];
  pasids.forEach((pasid, index) => {
    memory(A + index * PAGE, index + 1);
    iommu.map(pasid, 0x5000, { to: A + index * PAGE });
  });
  const all = (): number[] => pasids.map(pasid => read(0x5000, pasid)[1]);
  t.deepEqual(all(), [1, 2, 3, 4]);
  for (const pasid of pasids) iommu.unmap(pasid, 0x5000);
  t.deepEqual(all(), [1, 2, 3, 4]);
  flush(7, 0x5000);
  t.deepEqual(all(), [1, 2, 0, 4]);
  flush(NO_PASID, 0x5000);
  t.deepEqual(all(), [0, 2, 0, 4]);
  flush(3, 0, 64, true);
  t.deepEqual(all(), [0, 0, 0, 0], 'global: whatever the PASID');
});

test('a global invalidation spares requests without PASID', t => {
  const { iommu, read, flush } = tlbSetup();
  iommu.map(NO_PASID, 0x5000, { to: A });
  read(0x5000);
  flush(0, 0, 64, true);
  iommu.unmap(NO_PASID, 0x5000);
  t.is(read(0x5000)[0], OK);
});

test('a range goes as a whole, and no page beside it; a large page goes if any of it is in the range', t => {
  const { iommu, memory, read, flush } = tlbSetup();
  for (let page = 0; page < 8; page++) {
    memory(A + page * PAGE, page + 1);
    iommu.map(5, page * PAGE, { to: A + page * PAGE });
  }
  memory(0x20_3000, 0x77);
  iommu.map(5, 0x4000_3000, { to: 0x20_0000, shift: 21 });
  const all = (): number[] => Array.from({ length: 8 }, (_, page) => read(page * PAGE, 5)[1]);
  t.deepEqual(all(), [1, 2, 3, 4, 5, 6, 7, 8]);
  t.deepEqual(read(0x4000_3000, 5), [OK, 0x77]);
  for (let page = 0; page < 8; page++) iommu.unmap(5, page * PAGE);
  iommu.unmap(5, 0x4000_3000);
  flush(5, 0x2000, 13);
  t.deepEqual(all(), [1, 2, 0, 0, 5, 6, 7, 8]);
  flush(5, 0x7000, 14);
  t.deepEqual(all(), [1, 2, 0, 0, 0, 0, 0, 0]);
  t.is(read(0x4000_3000, 5)[0], OK);
  flush(5, 0x401f_f000, 12);
  t.deepEqual(read(0x4000_3000, 5), NOTHING);
});

test('a page above 4 GiB, whose offset has bits of both words', t => {
  const { iommu, memory, read } = tlbSetup();
  memory(0x12_3456, 0x5a);
  // The walk of a page of 2^36 bytes that begins at 0.
  iommu.map(1, 0x70_0012_3000, { to: 0, shift: 36 });
  t.deepEqual(read(0x70_0012_3456, 1), [OK, 0x5a]);
  t.deepEqual(iommu.translated.at(-1)!.slice(2, 4), [0, 0x12_3456]);
  iommu.map(1, 0x7f_0012_3000, { to: 0, shift: 36 });
  t.is(read(0x7f_0012_3456, 1)[0], MemTx.DECODE_ERROR);
  t.deepEqual(iommu.translated.at(-1)!.slice(2, 4), [0xf, 0x12_3456]);
});

test('a translation that grants too little is asked for again; a page without permissions is none', t => {
  const { iommu, read, write, memory } = tlbSetup();
  iommu.map(2, 0x5000, { to: A, access: Access.READ });
  t.is(read(0x5000, 2)[0], OK);
  t.is(write(0x5000, 1, 2), MemTx.ACCESS_ERROR);
  t.deepEqual(
    iommu.asked.map(request => request[4]),
    [Access.READ, Access.WRITE],
  );
  t.is(memory(A), 0);
  t.is(read(0x5000, 2)[0], OK, 'reading goes on');
  t.is(iommu.asked.length, 2);
  iommu.map(2, 0x5000, { to: A, access: Access.READ_WRITE });
  t.is(write(0x5000, 9, 2), OK);
  t.is(memory(A), 9);
  iommu.map(2, 0x6000, { to: A, access: 0 });
  t.deepEqual(read(0x6000, 2), NOTHING);
  iommu.map(2, 0x6000, { to: A, access: Access.READ });
  t.is(read(0x6000, 2)[0], OK, 'and was not kept');
});

test('reads that ask to execute need that permission; privileged requests have translations of their own', t => {
  const { iommu, read } = tlbSetup();
  iommu.map(2, 0x5000, { to: A });
  t.is(read(0x5000, 2)[0], OK);
  t.is(read(0x5000, 2, Access.EXECUTE)[0], MemTx.ACCESS_ERROR);
  iommu.map(2, 0x5000, { to: A, access: Access.READ | Access.EXECUTE });
  t.is(read(0x5000, 2, Access.EXECUTE)[0], OK);
  t.is(read(0x5000, 2, Access.PRIVILEGED)[0], OK);
  t.is(read(0x5000, NO_PASID, Access.PRIVILEGED)[0], MemTx.ACCESS_ERROR, 'without PASID the modes are not sent');
  t.deepEqual(
    iommu.asked.map(request => request[4]),
    [1, 1 | Access.EXECUTE, 1 | Access.EXECUTE, 1 | Access.PRIVILEGED, 1],
  );
});

test('untranslated only: the address is used as it is, and that is kept', t => {
  const { iommu, read } = tlbSetup();
  iommu.map(NO_PASID, 0x5000, { to: A, untranslatedOnly: true });
  t.is(read(0x5000)[0], MemTx.DECODE_ERROR, 'there is nothing behind this IOMMU for untranslated requests');
  t.is(read(0x5000)[0], MemTx.DECODE_ERROR);
  t.is(iommu.asked.length, 1);
  t.deepEqual(iommu.translated, []);
});

test('with ATS disabled requests are untranslated, and translations do not survive it', t => {
  const { iommu, fn, read } = tlbSetup();
  iommu.map(NO_PASID, 0x5000, { to: A });
  t.is(read(0x5000)[0], OK);
  enableAts(fn, false);
  t.is(read(0x5000)[0], MemTx.DECODE_ERROR);
  iommu.unmap(NO_PASID, 0x5000);
  enableAts(fn);
  t.deepEqual(read(0x5000), NOTHING);
});

test('a reset and a change of place forget every translation', t => {
  const ways: ((at: ReturnType<typeof tlbSetup>) => void)[] = [
    ({ fn }) => fn.reset(),
    ({ root, fn }) => {
      root.unplug(fn);
      root.plug(fn, 0x20);
    },
  ];
  for (const way of ways) {
    const at = tlbSetup();
    at.iommu.map(NO_PASID, 0x5000, { to: A });
    t.is(at.read(0x5000)[0], OK);
    at.iommu.unmap(NO_PASID, 0x5000);
    way(at);
    enable(at.fn);
    enableAts(at.fn);
    t.deepEqual(at.read(0x5000), NOTHING);
  }
});

test('an IOMMU that refuses, to translate or to take the translated address, fails the access', t => {
  const { iommu, read } = tlbSetup({ pri: true });
  iommu.map(NO_PASID, 0x5000, { to: A });
  for (const status of [AtsStatus.UNSUPPORTED, AtsStatus.ABORT]) {
    iommu.status = status;
    t.deepEqual(read(0x5000), NOTHING);
  }
  iommu.status = AtsStatus.OK;
  iommu.translatedStatus = AtsStatus.ABORT;
  t.deepEqual(read(0x5000), NOTHING);
  t.deepEqual(iommu.requests, [], 'that is no page fault');
});

test('an answer that an invalidation overtakes is not used, and does not hold the device for ever', t => {
  const { iommu, memory, read, flush } = tlbSetup();
  memory(A, 0xaa);
  memory(B, 0xbb);
  iommu.map(NO_PASID, 0x5000, { to: A });
  iommu.onAsked = () => {
    iommu.onAsked = () => undefined;
    iommu.map(NO_PASID, 0x5000, { to: B });
    t.true(flush(NO_PASID, 0x5000));
  };
  t.deepEqual(read(0x5000), [OK, 0xbb]);
  t.deepEqual(read(0x5000), [OK, 0xbb]);
  t.is(iommu.asked.length, 2);
  iommu.onAsked = () => void flush(NO_PASID, 0x9000);
  t.deepEqual(read(0x6000), NOTHING);
});

test('an invalidation completes only after the translated requests that began before it', t => {
  const { iommu, tlb, read } = tlbSetup();
  iommu.map(NO_PASID, 0x5000, { to: A });
  const order: string[] = [];
  const { translatedRequest } = iommu;
  iommu.translatedRequest = (...request) => {
    const done = tlb.invalidate(NO_PASID, false, 0, 0x5000, 12, () => order.push('completed'));
    order.push(`invalidated ${done}`);
    return translatedRequest.apply(iommu, request);
  };
  t.is(read(0x5000)[0], OK);
  order.push('read');
  t.deepEqual(order, ['invalidated false', 'completed', 'read']);
  iommu.unmap(NO_PASID, 0x5000);
  t.deepEqual(read(0x5000), NOTHING);
});

test('the smallest translation unit widens invalidations', t => {
  const { iommu, fn, read, flush } = tlbSetup();
  enableAts(fn, true, 1);
  iommu.map(NO_PASID, 0x4000, { to: A });
  iommu.map(NO_PASID, 0x6000, { to: A });
  for (const address of [0x4000, 0x6000]) t.is(read(address)[0], OK);
  iommu.unmap(NO_PASID, 0x4000);
  iommu.unmap(NO_PASID, 0x6000);
  flush(NO_PASID, 0x5000);
  t.deepEqual(read(0x4000), NOTHING);
  t.is(read(0x6000)[0], OK);
});

test('a slow one goes on with the old translation until it completes, and a reset keeps it from completing', t => {
  const { iommu, tlb, fn, clock, memory, read } = tlbSetup({ invalidateLatency: 1000 });
  memory(A, 0xaa);
  memory(B, 0xbb);
  iommu.map(NO_PASID, 0x5000, { to: A });
  read(0x5000);
  iommu.map(NO_PASID, 0x5000, { to: B });
  const completed: number[] = [];
  const flush = (): boolean => tlb.invalidate(NO_PASID, false, 0, 0x5000, 12, () => completed.push(clock.now));
  t.false(flush());
  clock.step(999);
  t.deepEqual([read(0x5000)[1], completed.length], [0xaa, 0]);
  clock.step(1);
  t.deepEqual([read(0x5000)[1], completed], [0xbb, [1000]]);
  flush();
  fn.reset();
  t.is(clock.next(), undefined);
  flush();
  tlb[Symbol.dispose]();
  clock.step(5000);
  t.deepEqual(completed, [1000]);
});

test('without page requests, a page that is not there is an error at once', t => {
  const { iommu, channel, resumed, read } = tlbSetup();
  t.deepEqual(read(0x5000), NOTHING);
  t.deepEqual([iommu.requests, resumed], [[], []]);
  channel.cancel();
  t.deepEqual([TlbAccess.WAITING, TlbAccess.REFUSED], [-1, -2], 'other results than MemTx has');
  t.is(PageResponse.SUCCESS, 0);
});

test('it needs the capability', t => {
  t.throws(() => new DeviceTlb(endpoint('plain', { pcie: true })), { message: /plain has no ATS capability/ });
});
