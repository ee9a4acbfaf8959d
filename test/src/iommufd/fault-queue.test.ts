/**
 * peers.md 3.6, 7, and 6 where page faults are: a real engine behind a real unit asks for pages, and a program answers through the descriptor of a
 * fault queue. What counts is what the engine then did, and the bytes.
 */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import {
  IommufdPageResponseCode,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptPageResponse,
  IommuHwptPgfault,
  IommuPgfaultPerm,
  viewOf,
} from '@remora/uapi';
import { EngineError } from '@hw/dma-engine';
import { RawEngine } from './raw-engine.js';
import { type GuestStage1, RawHost } from './raw-host.js';

const { NEST_PARENT, PASID } = IommuHwptAllocFlag;
const { SUCCESS, INVALID } = IommufdPageResponseCode;
const PAGE = 4096;
/** Virtual page that is not there until a test maps it, and the guest's page that it then is. */
const AT = 0x1_2345;
const THERE = 10;
const FIRST = 5;
const SECOND = 6;

function asking(t: ExecutionContext) {
  const at = owner(t)(new RawHost({ 'device-iotlb': true, svm: true }, { ats: true, pri: true }));
  const { user, devices, ioas } = at;
  const [device] = devices;
  const engine = new RawEngine(user.syscalls, device.fd);
  const parent = user.hwpt(device.id, ioas, { flags: NEST_PARENT | PASID });
  t.is(user.attach(device.fd, parent), 0);
  const queue = user.faultQueue();
  const nested = (stage1: GuestStage1, faultId?: number): number => {
    const asked = { flags: PASID, dataType: IommuHwptDataType.VTD_S1, data: stage1.data() };
    return user.hwpt(device.id, parent, faultId === undefined ? asked : { ...asked, faultId });
  };
  const stage1 = at.stage1();
  const hwpt = nested(stage1, queue.id);
  t.is(user.attach(device.fd, hwpt, FIRST), 0);
  const fill = (value: number, pasid = FIRST, page = AT) =>
    engine.fill({ pasid, to: page * PAGE, length: 4, pattern: value * 0x0101_0101 });
  const faults = (fd = queue.fd) => {
    const bytes = user.read(fd, 8 * IommuHwptPgfault.size);
    if (typeof bytes === 'number') throw new Error(`read: ${bytes}`);
    return Array.from({ length: bytes.length / IommuHwptPgfault.size }, (_, index) =>
      IommuHwptPgfault.decode(viewOf(bytes), index * IommuHwptPgfault.size),
    );
  };
  const answer = (cookie: number, code: number, fd = queue.fd): number =>
    user.syscalls.write(fd, IommuHwptPageResponse.encode({ cookie, code }));
  return { at, user, device, engine, parent, queue, nested, stage1, hwpt, fill, faults, answer };
}

const waits = { busy: true, moved: 0 };
const failed = { ok: false, busy: false, error: EngineError.PAGE, moved: 0 };

test('3.6/7: the engine waits, the page comes, the answer goes out, and the bytes are there', t => {
  const { at, device, engine, stage1, fill, faults, answer } = asking(t);
  t.like(fill(0x5a), waits);
  const [fault, ...more] = faults();
  t.deepEqual(more, []);
  t.like(fault, {
    // PASID_VALID, LAST_PAGE, and the kernel's own flag that the response needs the PASID.
    flags: 7,
    dev_id: device.id,
    pasid: FIRST,
    perm: IommuPgfaultPerm.WRITE,
    addr: AT * PAGE,
    cookie: 1,
  });
  stage1.map(AT, THERE);
  t.like(engine.result(), waits);
  t.is(answer(1, SUCCESS), 8);
  t.like(engine.result(), { ok: true, moved: 4 });
  t.is(at.guest(THERE), 0x5a);
  t.true(fill(0x5b).ok, 'it knows the page now');
  t.deepEqual(faults(), []);
});

test('3.6/7: what is no answer leaves the engine waiting; INVALID is an error there, and the second answer is nobody’s', t => {
  const { at, engine, stage1, fill, faults, answer } = asking(t);
  t.like(fill(0x5a), waits);
  t.is(faults()[0]!.cookie, 1);
  t.is(answer(2, SUCCESS), -Errno.EINVAL);
  t.is(answer(1, 2), -Errno.EINVAL);
  t.like(engine.result(), waits);
  t.is(answer(1, INVALID), 8);
  t.like(engine.result(), failed);
  t.is(answer(1, SUCCESS), -Errno.EINVAL);
  stage1.map(AT, THERE);
  t.like(engine.result(), failed);
  t.is(at.guest(THERE), 0);
  t.like(fill(0x5b), { ok: true, moved: 4 });
});

test('a page that was promised and is not there is asked for again', t => {
  const { engine, stage1, fill, faults, answer } = asking(t);
  t.like(fill(0x5a), waits);
  t.is(faults()[0]!.cookie, 1);
  t.is(answer(1, SUCCESS), 8);
  t.like(engine.result(), waits);
  t.like(faults(), [{ cookie: 1, addr: AT * PAGE }]);
  stage1.map(AT, THERE);
  t.is(answer(1, SUCCESS), 8);
  t.true(engine.result().ok);
});

test('3.6/7: the descriptor is closed while the engine waits: it waits on, as with Linux, until the page table is detached', t => {
  const { at, user, engine, queue, hwpt, device, stage1, fill } = asking(t);
  t.like(fill(0x5a), waits);
  t.is(user.syscalls.close(queue.fd), 0);
  t.like(engine.result(), waits);
  t.is(user.destroy(queue.id), -Errno.EBUSY);
  stage1.map(AT, THERE);
  t.is(user.detach(device.fd, FIRST), 0);
  t.like(engine.result(), failed);
  t.is(at.guest(THERE), 0);
  t.is(user.destroy(hwpt), 0);
  t.is(user.destroy(queue.id), 0);
});

test('3.6/6: replaced while the engine waits, by a page table without faults: answered, over, and the new one serves', t => {
  const { at, user, device, engine, nested, hwpt, fill, faults, answer } = asking(t);
  const other = at.stage1();
  other.map(AT, THERE + 1);
  const next = nested(other);
  t.like(fill(0x5a), waits);
  t.is(faults()[0]!.cookie, 1);
  t.is(user.destroy(hwpt), -Errno.EBUSY);
  t.is(user.attach(device.fd, next, FIRST), 0);
  t.like(engine.result(), { busy: false, ok: false });
  t.is(answer(1, SUCCESS), -Errno.EINVAL, 'nobody waits any more');
  t.is(user.destroy(hwpt), 0);
  t.is(user.destroy(next), -Errno.EBUSY);
  t.true(fill(0x5b).ok);
  t.is(at.guest(THERE + 1), 0x5b);
  t.is(fill(0x5b, FIRST, AT + 1).busy, false, 'nobody takes faults here');
  t.deepEqual(faults(), []);
});

test('3.6/6: and back to one with faults: it asks again', t => {
  const { at, user, device, engine, nested, hwpt, stage1, fill, faults, answer } = asking(t);
  const next = nested(at.stage1());
  t.is(user.attach(device.fd, next, FIRST), 0);
  t.is(fill(0x5a).busy, false);
  t.is(user.attach(device.fd, hwpt, FIRST), 0);
  t.like(fill(0x5a), waits);
  stage1.map(AT, THERE);
  t.is(answer(faults()[0]!.cookie, SUCCESS), 8);
  t.true(engine.result().ok);
});

test('detached while the engine waits: answered, and nothing reaches memory', t => {
  const { at, user, device, engine, stage1, fill, faults } = asking(t);
  t.like(fill(0x5a), waits);
  stage1.map(AT, THERE);
  t.is(user.detach(device.fd, FIRST), 0);
  t.like(engine.result(), { busy: false, ok: false });
  t.deepEqual(faults(), [], 'nothing to be read of it');
  t.is(at.guest(THERE), 0);
});

test('requests go to the queue of the page table that serves their PASID; where none does, INVALID and a line in the ledger', t => {
  const { at, user, device, engine, nested, queue, fill, faults, answer } = asking(t);
  const { ledger } = at.hostLevel;
  const second = at.stage1();
  const other = user.faultQueue();
  t.is(user.attach(device.fd, nested(second, other.id), SECOND), 0);
  t.like(fill(0x5a, SECOND), waits);
  t.deepEqual(faults(), []);
  t.like(faults(other.fd), [{ pasid: SECOND }]);
  t.is(answer(1, SUCCESS), -Errno.EINVAL, 'cookies are a queue’s own');
  second.map(AT, THERE);
  t.is(answer(1, SUCCESS, other.fd), 8);
  t.true(engine.result().ok);
  t.like(fill(0x5a, FIRST), waits);
  t.deepEqual(faults(other.fd), []);
  t.like(faults(), [{ pasid: FIRST }]);
  t.is(answer(1, INVALID), 8);
  // Requests without PASID are served by the parent, which has no queue.
  ledger.on = true;
  t.like(engine.fill({ to: 0x7000_0000, length: 4, pattern: 1 }), failed);
  t.deepEqual([faults(), faults(other.fd)], [[], []]);
  const asked = ledger.events.filter(({ data }) => data['operation'] === 'page-request');
  t.like(asked[0]?.data, { pasid: -1, queue: null });
  t.true(queue.fd !== other.fd);
});

test('a program that ends while its engine waits leaves nothing', t => {
  const at = owner(t)(new RawHost({ 'device-iotlb': true, svm: true }, { ats: true, pri: true }));
  const before = at.hostLevel.platform.dump();
  const { user, devices, ioas } = at;
  const parent = user.hwpt(devices[0].id, ioas, { flags: NEST_PARENT | PASID });
  t.is(user.attach(devices[0].fd, parent), 0);
  const queue = user.faultQueue();
  const data = at.stage1().data();
  const hwpt = user.hwpt(devices[0].id, parent, {
    flags: PASID,
    faultId: queue.id,
    dataType: IommuHwptDataType.VTD_S1,
    data,
  });
  t.is(user.attach(devices[0].fd, hwpt, FIRST), 0);
  const engine = new RawEngine(user.syscalls, devices[0].fd);
  t.true(engine.fill({ pasid: FIRST, to: AT * PAGE, length: 4, pattern: 1 }).busy);
  at.process[Symbol.dispose]();
  const { processes, frames, kernelPages, iommu, devices: functions } = at.host.dump();
  t.deepEqual(processes, []);
  t.is(frames, kernelPages, 'but for the unit’s tables');
  t.deepEqual([kernelPages, iommu], [before['kernelPages'], before['iommu']]);
  t.like((functions as Record<string, unknown>)['0000:3f:00.0'], { opened: 0, busMaster: false, atsEnabled: false });
});
