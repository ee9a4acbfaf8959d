/** IOMMU_HWPT_INVALIDATE on a real unit (peers.md 3.4, 3.6): what was flushed shows in where DMA goes: without a flush it goes where it went before. */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { IommuHwptAllocFlag, IommuHwptInvalidate, IommuHwptVtdS1Invalidate, IOMMU_HWPT_INVALIDATE } from '@remora/uapi';
import { type GuestStage1, RawHost } from './raw-host.js';

const { NEST_PARENT, PASID } = IommuHwptAllocFlag;
const PAGE = 4096;
const IN = 0x5_0000;
const EVERYTHING = 2n ** 64n - 1n;

interface Nested {
  readonly at: RawHost;
  readonly stage1: GuestStage1;
  readonly other: GuestStage1;
  readonly hwpt: number;
  readonly second: number;
}

/** Two nested tables, at PASIDs 1 and 2 of the first engine. Pages IN .. IN + 3 go to guest pages 10 .. 13 and 20 .. 23, and the unit knows it. */
function nested(t: ExecutionContext): Nested {
  const at = owner(t)(new RawHost());
  const { user, devices, ioas } = at;
  const parent = user.hwpt(devices[0].id, ioas, { flags: NEST_PARENT });
  const [stage1, other] = [at.stage1(), at.stage1()];
  for (let page = 0; page < 4; page++) {
    stage1.map(IN + page, 10 + page);
    other.map(IN + page, 20 + page);
  }
  const [hwpt, second] = [at.nested(parent, stage1, PASID), at.nested(parent, other, PASID)];
  t.is(user.attach(devices[0].fd, hwpt, 1), 0);
  t.is(user.attach(devices[0].fd, second, 2), 0);
  for (let page = 0; page < 4; page++) t.true(at.write(IN + page, 1, 1) && at.write(IN + page, 1, 2));
  return { at, stage1, other, hwpt, second };
}

/** The guest maps its pages to others, 100 further, and says nothing. */
function move({ stage1, other }: Nested): void {
  for (let page = 0; page < 4; page++) {
    stage1.map(IN + page, 110 + page);
    other.map(IN + page, 120 + page);
  }
}

/** Where writes of a PASID to the four pages go now: true for the new page, false for the old one. */
function moved(at: RawHost, pasid: 1 | 2): boolean[] {
  return [0, 1, 2, 3].map(page => {
    const [old, now] = [10 * pasid + page, 100 + 10 * pasid + page];
    at.setGuest(old, 0);
    at.setGuest(now, 0);
    at.write(IN + page, 0x77, pasid);
    return at.guest(now) === 0x77 && at.guest(old) === 0;
  });
}

const NOTHING = [false, false, false, false];

test('3.6/4: an array of no entries asks for the type, and flushes nothing', t => {
  const all = nested(t);
  const { at, hwpt } = all;
  move(all);
  const ask = (values: object): { result: number; entry_num: number } => {
    const { result, out } = at.user.call(IOMMU_HWPT_INVALIDATE, IommuHwptInvalidate, { hwpt_id: hwpt, ...values });
    return { result, entry_num: out.entry_num };
  };
  t.deepEqual(ask({}), { result: 0, entry_num: 0 });
  t.is(ask({ data_type: 1 }).result, -Errno.EINVAL);
  t.is(ask({ hwpt_id: 0x7777 }).result, -Errno.ENOENT);
  const address = at.user.pointer(IommuHwptVtdS1Invalidate.encode({ npages: EVERYTHING }));
  const good = { data_uptr: address, entry_len: 24, entry_num: 1 };
  for (const [values, result] of [
    [{ data_type: 1 }, -Errno.EINVAL],
    [{ data_uptr: 0 }, -Errno.EINVAL],
    [{ entry_len: 0 }, -Errno.EINVAL],
    [{ entry_len: 1 }, -Errno.EINVAL],
    [{ entry_len: 23 }, -Errno.EINVAL],
    [{ entry_len: PAGE + 1 }, -Errno.EINVAL],
    [{ entry_num: 2 ** 19 + 1 }, -Errno.EINVAL],
    [{ data_uptr: 0x1000 }, -Errno.EFAULT],
    [{ hwpt_id: at.ioas }, -Errno.EINVAL],
    [{ hwpt_id: at.devices[0].id }, -Errno.EINVAL],
  ] as const) {
    t.deepEqual(ask({ ...good, ...values }), { result, entry_num: 0 }, JSON.stringify(values));
  }
  t.deepEqual(moved(at, 1), NOTHING, 'none of these flushed anything');
  t.deepEqual(ask(good), { result: 0, entry_num: 1 });
  t.deepEqual(moved(at, 1), [true, true, true, true]);
});

test('3.6/4: the first entry is right and the second wrong: one was done, and only its pages were flushed', t => {
  for (const [wrong, result] of [
    [{ addr: (IN + 1) * PAGE, flags: 2 }, -Errno.EOPNOTSUPP],
    [{ addr: (IN + 1) * PAGE + 8 }, -Errno.EINVAL],
    [{ addr: (IN + 1) * PAGE, npages: EVERYTHING }, -Errno.EINVAL],
  ] as const) {
    const all = nested(t);
    const { at, hwpt } = all;
    move(all);
    const done = at.invalidate(hwpt, { addr: IN * PAGE }, wrong, { addr: (IN + 2) * PAGE });
    t.deepEqual({ ...done }, { result, processed: 1 });
    t.deepEqual(moved(at, 1), [true, false, false, false]);
  }
});

test('3.6/4: entries that are longer than the kernel knows are none, whatever follows', t => {
  const all = nested(t);
  const { at, hwpt } = all;
  move(all);
  const entry = Uint8Array.of(...IommuHwptVtdS1Invalidate.encode({ addr: IN * PAGE, npages: 1 }), 0);
  t.deepEqual(at.user.invalidate(hwpt, 0, [entry]), { result: -Errno.EINVAL, processed: 0 });
  t.deepEqual(moved(at, 1), NOTHING);
});

test('3.6/4: entries that are not there at the end of an array: those before are done', t => {
  const all = nested(t);
  const { at, hwpt } = all;
  move(all);
  const { address, ram } = at.user.memory(PAGE);
  const bytes = IommuHwptVtdS1Invalidate.encode({ addr: (IN + 3) * PAGE, npages: 1 });
  ram.write(0, PAGE - 24, bytes);
  const { result, out } = at.user.call(IOMMU_HWPT_INVALIDATE, IommuHwptInvalidate, {
    hwpt_id: hwpt,
    data_uptr: address + PAGE - 24,
    entry_len: 24,
    entry_num: 2,
  });
  t.deepEqual([result, out.entry_num], [-Errno.EFAULT, 1]);
  t.deepEqual(moved(at, 1), [false, false, false, true]);
});

test('3.6/5: everything of one table is flushed, and the other table keeps what the unit knows of it', t => {
  const all = nested(t);
  const { at, hwpt, second } = all;
  move(all);
  t.deepEqual({ ...at.invalidate(hwpt, { npages: EVERYTHING }) }, { result: 0, processed: 1 });
  t.deepEqual(moved(at, 1), [true, true, true, true]);
  t.deepEqual(moved(at, 2), NOTHING);
  t.deepEqual({ ...at.invalidate(second, { addr: IN * PAGE, npages: 2, flags: 1 }) }, { result: 0, processed: 1 });
  t.deepEqual(moved(at, 2), [true, true, false, false]);
});

test('3.6/5: a table that serves several functions and PASIDs is flushed for all of them; one that serves nobody for none', t => {
  const all = nested(t);
  const { at, hwpt } = all;
  const { user, devices } = at;
  t.is(user.attach(devices[1].fd, hwpt, 1), 0);
  t.is(user.attach(devices[1].fd, hwpt, 3), 0);
  t.true(at.write(IN, 1, 1, 1) && at.write(IN, 1, 3, 1));
  move(all);
  const arrives = (pasid: number, engine: 0 | 1): boolean => {
    at.setGuest(110, 0);
    at.write(IN, 0x66, pasid, engine);
    return at.guest(110) === 0x66;
  };
  t.deepEqual([arrives(1, 0), arrives(1, 1), arrives(3, 1)], [false, false, false]);
  at.invalidate(hwpt, { addr: IN * PAGE });
  t.deepEqual([arrives(1, 0), arrives(1, 1), arrives(3, 1)], [true, true, true]);
  for (const [fd, pasid] of [
    [devices[0].fd, 1],
    [devices[1].fd, 1],
    [devices[1].fd, 3],
  ] as const)
    user.detach(fd, pasid);
  t.deepEqual({ ...at.invalidate(hwpt, { npages: EVERYTHING }, { addr: 8 }) }, { result: -Errno.EINVAL, processed: 1 });
});
