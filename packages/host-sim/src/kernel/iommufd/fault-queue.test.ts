/**
 * peers.md 3.6, 7 and the part of 6 with page faults: the descriptor of a fault queue, byte for byte; what is judged is the answer that goes out to the
 * device. test/src/iommufd has the same with real page requests.
 */
import test, { type ExecutionContext } from 'ava';
import { Access, Errno, NO_PASID } from '@remora/core';
import { type PageRequest, PageResponse } from '@remora/iommu';
import { SmmuType } from '@remora/testing';
import {
  IOMMU_FAULT_QUEUE_ALLOC,
  IommuFaultAlloc,
  IommufdPageResponseCode,
  IommuHwptAllocFlag,
  IommuHwptPageResponse,
  IommuHwptPgfault,
  IommuPgfaultFlag,
  IommuPgfaultPerm,
  viewOf,
} from '@remora/uapi';
import { GuestSte, nested, smmuHost, viommuOf } from './smmu-host.test.helper.js';

const { PASID, NEST_PARENT } = IommuHwptAllocFlag;
const { SUCCESS, INVALID } = IommufdPageResponseCode;
const FAULT = IommuHwptPgfault.size;

function faulting(t: ExecutionContext) {
  const host = smmuHost(t);
  const { user, devices, driver, ioas, bench } = host;
  const [device, other] = devices;
  const queue = user.faultQueue();
  const ask = (more: Partial<PageRequest> = {}): void =>
    driver.requestPage({
      requesterId: device.requesterId,
      pasid: NO_PASID,
      hi: 0x1,
      lo: 0x2345_6000,
      access: Access.READ,
      group: 1,
      last: true,
      ...more,
    });
  /** The unit queues requests, and says so. */
  const request = (...wanted: Partial<PageRequest>[]): void => {
    for (const each of wanted) ask(each);
    bench.pagesRequested();
  };
  /** Cookies, groups and flags of the faults in what is read. */
  const read = (
    count: number,
  ): { cookie: number; grpid: number; flags: number; dev: number; pasid: number }[] | number => {
    const bytes = user.read(queue.fd, count * FAULT);
    if (typeof bytes === 'number') return bytes;
    const view = viewOf(bytes);
    return Array.from({ length: bytes.length / FAULT }, (_, index) => {
      const { cookie, grpid, flags, dev_id: dev, pasid } = IommuHwptPgfault.decode(view, index * FAULT);
      return { cookie, grpid, flags, dev, pasid };
    });
  };
  const cookies = (count: number): number[] | number => {
    const faults = read(count);
    return typeof faults === 'number' ? faults : faults.map(({ cookie }) => cookie);
  };
  const answer = (...answers: [cookie: number, code: number][]): number => {
    const bytes = answers.flatMap(([cookie, code]) => [...IommuHwptPageResponse.encode({ cookie, code })]);
    return user.syscalls.write(queue.fd, Uint8Array.from(bytes));
  };
  /** Groups and codes of the answers that went out since the last call. */
  const responses = (): [number, number][] =>
    driver.responses.splice(0).map(({ request: { group }, code }) => [group, code]);
  const hwpt = (flags = 0): number => user.hwpt(device.id, ioas, { flags, faultId: queue.id });
  return { ...host, device, other, queue, request, read, cookies, answer, responses, hwpt };
}

test('3.6/7: a fault, field by field; a wrong cookie, a wrong code, the answer, and a second one', t => {
  const { user, device, queue, request, answer, responses, hwpt } = faulting(t);
  t.is(user.attach(device.fd, hwpt()), 0);
  request({ access: Access.READ | Access.WRITE });
  const bytes = user.read(queue.fd, FAULT);
  if (typeof bytes === 'number') throw new Error(`read: ${bytes}`);
  t.deepEqual(IommuHwptPgfault.decode(viewOf(bytes)), {
    flags: IommuPgfaultFlag.LAST_PAGE,
    dev_id: device.id,
    pasid: 0,
    grpid: 1,
    perm: IommuPgfaultPerm.READ | IommuPgfaultPerm.WRITE,
    addr: 0x1_2345_6000,
    length: 0,
    cookie: 1,
  });
  t.is(answer([2, SUCCESS]), -Errno.EINVAL);
  t.is(answer([0, SUCCESS]), -Errno.EINVAL);
  t.is(answer([1, 2]), -Errno.EINVAL, 'there is no such code');
  t.is(answer([1, 15]), -Errno.EINVAL, 'RFC v3.1 had FAILURE');
  t.deepEqual(responses(), []);
  t.is(answer([1, SUCCESS]), 8);
  t.deepEqual(responses(), [[1, PageResponse.SUCCESS]]);
  t.is(answer([1, SUCCESS]), -Errno.EINVAL, 'it is answered');
  t.deepEqual(responses(), []);
});

test('3.6/7: reads and writes of other lengths, and at positions', t => {
  const { user, device, queue, request, cookies, answer, responses, hwpt } = faulting(t);
  const { syscalls } = user;
  t.is(user.attach(device.fd, hwpt()), 0);
  const empty = user.read(queue.fd, FAULT);
  t.deepEqual(empty, new Uint8Array(0), 'nothing is there: no error');
  request({});
  for (const length of [1, 8, FAULT - 1, FAULT + 1, 2 * FAULT - 8]) t.is(user.read(queue.fd, length), -Errno.ESPIPE);
  for (const offset of [0, FAULT]) t.is(syscalls.pread(queue.fd, new Uint8Array(FAULT), offset), -Errno.ESPIPE);
  t.deepEqual(user.read(queue.fd, 0), new Uint8Array(0));
  t.deepEqual(cookies(1), [1], 'it waits still');
  const good = IommuHwptPageResponse.encode({ cookie: 1, code: SUCCESS });
  for (const length of [1, 7, 9]) t.is(syscalls.write(queue.fd, new Uint8Array(length)), -Errno.ESPIPE);
  for (const offset of [0, 8]) t.is(syscalls.pwrite(queue.fd, good, offset), -Errno.ESPIPE);
  t.is(syscalls.write(queue.fd, new Uint8Array(0)), 0);
  t.is(syscalls.ioctl(queue.fd, IOMMU_FAULT_QUEUE_ALLOC, good), -Errno.ENOTTY);
  t.deepEqual(responses(), []);
  t.is(answer([1, INVALID]), 8);
  t.deepEqual(responses(), [[1, PageResponse.INVALID_REQUEST]]);
});

test('3.6/7: a group is never split: it waits for its last request, and for a buffer that holds it', t => {
  const { user, device, request, read, answer, responses, hwpt } = faulting(t);
  t.is(user.attach(device.fd, hwpt()), 0);
  request({ group: 3, last: false }, { group: 3, last: false, lo: 0x1000 });
  t.deepEqual(read(4), [], 'the last is not there');
  request({ group: 4 }, { group: 3, lo: 0x2000 });
  const of = (cookie: number, grpid: number, last: boolean) => ({
    cookie,
    grpid,
    flags: last ? IommuPgfaultFlag.LAST_PAGE : 0,
    dev: device.id,
    pasid: 0,
  });
  t.deepEqual(read(3), [of(1, 4, true)], 'the second group does not fit any more');
  t.is(read(2), -Errno.EINVAL, 'nor here');
  t.deepEqual(read(3), [of(2, 3, false), of(2, 3, false), of(2, 3, true)]);
  t.is(answer([2, SUCCESS]), 8);
  t.deepEqual(responses(), [[3, PageResponse.SUCCESS]], 'one answer for the group');
});

test('3.6/7: answers in one write: what was taken before a wrong one is done', t => {
  const { user, device, request, cookies, answer, responses, hwpt } = faulting(t);
  t.is(user.attach(device.fd, hwpt()), 0);
  request({ group: 1 }, { group: 2 }, { group: 3 });
  t.deepEqual(cookies(8), [1, 2, 3]);
  t.is(answer([3, SUCCESS], [1, INVALID], [9, SUCCESS], [2, SUCCESS]), 16);
  t.deepEqual(responses(), [
    [3, PageResponse.SUCCESS],
    [1, PageResponse.INVALID_REQUEST],
  ]);
  request({ group: 5 });
  t.deepEqual(cookies(1), [1], 'the lowest cookie that is free');
  t.is(answer([2, SUCCESS], [1, SUCCESS]), 16);
});

test('a request with a PASID says so; what serves another PASID, or another device, has another queue or none', t => {
  const { user, device, other, ioas, request, read, responses, hwpt } = faulting(t);
  const rid = user.hwpt(device.id, ioas, { flags: PASID });
  t.is(user.attach(device.fd, rid), 0);
  t.is(user.attach(device.fd, hwpt(PASID), 5), 0);
  request({ pasid: 5, group: 1 });
  // As Linux 7.3.4 has it: PASID_VALID, LAST_PAGE, and that the response needs the PASID.
  t.deepEqual(read(1), [{ cookie: 1, grpid: 1, flags: 7, dev: device.id, pasid: 5 }]);
  request({ pasid: 6, group: 2 }, { group: 3 }, { requesterId: other.requesterId, group: 4, last: false });
  request({ requesterId: other.requesterId, group: 4 }, { requesterId: 0x1234, group: 5 });
  t.deepEqual(read(8), []);
  t.deepEqual(
    responses(),
    [2, 3, 4, 5].map(group => [group, PageResponse.INVALID_REQUEST]),
    'nobody can take them',
  );
});

test('whoever waits for the descriptor is told when a group is complete', t => {
  const { user, device, queue, request, cookies, hwpt } = faulting(t);
  t.is(user.attach(device.fd, hwpt()), 0);
  let calls = 0;
  const waiting = user.syscalls.onReadable(queue.fd, () => calls++);
  request({ last: false });
  t.is(calls, 0);
  request({});
  t.is(calls, 1);
  t.deepEqual(cookies(8), [1, 1]);
  waiting[Symbol.dispose]();
  request({});
  t.is(calls, 1);
});

test('3.6/7: close with groups that wait: as in Linux they are answered when the page table goes, INVALID, and so are later ones', t => {
  const { user, device, queue, request, cookies, responses, hwpt } = faulting(t);
  const table = hwpt();
  t.is(user.attach(device.fd, table), 0);
  request({ group: 1 });
  t.deepEqual(cookies(1), [1]);
  request({ group: 2 });
  t.is(user.syscalls.close(queue.fd), 0);
  request({ group: 3 });
  t.deepEqual(responses(), []);
  t.is(user.destroy(queue.id), -Errno.EBUSY, 'the page table has it');
  t.is(user.detach(device.fd), 0);
  t.deepEqual(
    responses(),
    [2, 3, 1].map(group => [group, PageResponse.INVALID_REQUEST]),
  );
  t.is(user.destroy(table), 0);
  t.is(user.destroy(queue.id), 0);
});

test('3.6/2: DESTROY of a fault queue: neither while its descriptor is open nor while a page table has it', t => {
  const { user, queue, hwpt } = faulting(t);
  t.is(user.destroy(queue.id), -Errno.EBUSY);
  const table = hwpt();
  t.is(user.syscalls.close(queue.fd), 0);
  t.is(user.destroy(queue.id), -Errno.EBUSY);
  t.is(user.destroy(table), 0);
  t.is(user.destroy(queue.id), 0);
  t.is(user.destroy(queue.id), -Errno.ENOENT);
});

test('3.6/6: replaced, one by one: nested, another nested with faults, parent, address space', t => {
  const made = faulting(t);
  const { user, device, queue, parent, ioas, request, cookies, answer, responses } = made;
  const viommu = viommuOf(t, made);
  t.true(user.vdevice(viommu, device.id, 1) > 0);
  const plain = nested(made, viommu, GuestSte.TRANSLATE);
  const data = { dataType: SmmuType.HWPT_SMMUV3, data: GuestSte.TRANSLATE };
  const faults = user.hwpt(device.id, viommu, { ...data, faultId: queue.id });
  t.true(faults > 0);
  const invalid = (group: number): [number, number][] => [[group, PageResponse.INVALID_REQUEST]];
  const busy = (...ids: number[]): void => {
    for (const id of [plain, faults, parent]) t.is(user.destroy(id), ids.includes(id) ? -Errno.EBUSY : 0, `${id}`);
  };
  t.is(user.attach(device.fd, plain), 0);
  t.is(user.destroy(plain), -Errno.EBUSY);
  request({ group: 1 });
  t.deepEqual(responses(), invalid(1), 'this one takes no faults');
  t.is(user.attach(device.fd, faults), 0);
  request({ group: 2 }, { group: 3 });
  t.deepEqual(cookies(1), [1]);
  t.is(user.destroy(faults), -Errno.EBUSY);
  t.is(user.destroy(queue.id), -Errno.EBUSY);
  t.is(user.attach(device.fd, parent), 0);
  t.deepEqual(responses(), [...invalid(3), ...invalid(2)], 'what came through the replaced one is over');
  t.is(answer([1, SUCCESS]), -Errno.EINVAL);
  t.deepEqual(cookies(8), []);
  request({ group: 4 });
  t.deepEqual(responses(), invalid(4));
  t.is(user.attach(device.fd, ioas), 0);
  busy(parent);
  t.is(user.detach(device.fd), 0);
});

test('3.6/3: FAULT_ID_VALID: an id that is none, of another kind, with a nesting parent', t => {
  const { user, device, ioas, queue } = faulting(t);
  t.is(user.hwpt(device.id, ioas, { faultId: 999 }), -Errno.ENOENT);
  t.is(user.hwpt(device.id, ioas, { faultId: ioas }), -Errno.ENOENT);
  t.is(user.hwpt(device.id, ioas, { flags: NEST_PARENT, faultId: queue.id }), -Errno.EOPNOTSUPP);
  t.is(user.call(IOMMU_FAULT_QUEUE_ALLOC, IommuFaultAlloc, { flags: 1 }).result, -Errno.EOPNOTSUPP);
  t.is(user.syscalls.close(queue.fd), 0);
  t.is(user.destroy(queue.id), 0, 'none of them has it');
});

test('a device that never ends its group fills no memory: what is too much is dropped, and the group answered as one', t => {
  const { user, device, queue, request, responses, answer, hwpt, bench } = faulting(t);
  const { ledger } = bench.host;
  t.is(user.attach(device.fd, hwpt()), 0);
  ledger.on = true;
  request(...Array.from({ length: 600 }, (_, page) => ({ last: false, lo: page * 0x1000 })));
  request({ lo: 0x7777_0000 });
  const bytes = user.read(queue.fd, 600 * FAULT);
  if (typeof bytes === 'number') throw new Error(`read: ${bytes}`);
  t.is(bytes.length, 513 * FAULT);
  t.is(IommuHwptPgfault.decode(viewOf(bytes), 512 * FAULT).addr, 0x1_7777_0000, 'the last is there');
  t.is(ledger.events.filter(({ data }) => data['operation'] === 'page-request-dropped').length, 600 - 512);
  t.is(answer([1, SUCCESS]), 8);
  t.deepEqual(responses(), [[1, PageResponse.SUCCESS]]);
});

test('a VMM that ends in the middle: everything is answered, nothing stays', t => {
  const { user, device, request, cookies, responses, hwpt, vmm, driver, bench } = faulting(t);
  t.is(user.attach(device.fd, hwpt()), 0);
  request({ group: 1 }, { group: 2 }, { group: 7, last: false });
  t.deepEqual(cookies(1), [1]);
  vmm[Symbol.dispose]();
  t.deepEqual(
    responses().sort(([a], [b]) => a - b),
    [
      [1, PageResponse.INVALID_REQUEST],
      [2, PageResponse.INVALID_REQUEST],
    ],
  );
  t.is(driver.domains.size, 0);
  t.like(bench.host.dump(), { frames: 0 });
});
