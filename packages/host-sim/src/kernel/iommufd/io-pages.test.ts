/** Pins: what stays, and who pays (peers.md 3.6, numbers 15, 16 and 19). */
import test from 'ava';
import { Errno } from '@remora/core';
import { IommufdUser } from '@remora/testing';
import * as uapi from '@remora/uapi';
import type { IommufdFile } from './file.js';
import { Ioas } from './ioas.js';
import { IommufdBench, PAGE, U64_MAX } from './iommufd.test.helper.js';

const { SET, GET } = uapi.IommuOptionOp;
const { RLIMIT_MODE } = uapi.IommuOptionId;

test('3.6/15: what hardware needs stays pinned and mapped: an unmap is EBUSY until it lets go', t => {
  const b = new IommufdBench(t);
  const { user, bench } = b;
  const ioas = user.ioas();
  const { address } = user.memory(2 * PAGE);
  b.map(ioas, { user_va: address, length: 2 * PAGE, iova: 0x10_0000 });
  const file = b.process.file(user.fd) as IommufdFile;
  const object = file.context.objects.get(ioas, Ioas) as Ioas;
  const locked = object.lockPages(0x10_1000n, 0x1000n);
  if (typeof locked === 'number') return t.fail();
  t.deepEqual([...locked.frames], [...b.process.memory.framesAt(address + PAGE, 1)!]);
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'user root', pages: 2 }]);
  t.is(b.unmap(ioas, 0x10_0000, 2 * PAGE), -Errno.EBUSY);
  t.is(b.unmap(ioas, 0, U64_MAX), -Errno.EBUSY);
  locked.unlock();
  t.is(b.unmap(ioas, 0x10_0000, 2 * PAGE), 2 * PAGE);
  t.is(object.lockPages(0x10_1000n, 0x1000n), -Errno.ENOENT);
  t.deepEqual(bench.host.dump()['pinned'], []);
});

test("3.6/16: pins are the user's, or each process' alone; the limit is ENOMEM and nothing is mapped", t => {
  const b = new IommufdBench(t, { kernel: { memlock: 4 * PAGE } });
  const { user, bench } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  const { address } = user.memory(8 * PAGE);
  b.map(ioas, { user_va: address, length: 3 * PAGE, iova: 0x1_0000 });
  t.is(b.map(ioas, { user_va: address, length: 2 * PAGE, iova: 0x2_0000 }), -Errno.ENOMEM);
  t.is(b.dmaRead(0x2_0000), undefined);
  const other = bench.host.process('other');
  const others = new IommufdUser(other);
  const second = others.bind('/dev/vfio/devices/vfio1');
  const theirs = others.ioas();
  t.true(others.attach(second.fd, theirs) >= 0);
  const memory = others.memory(2 * PAGE);
  t.is(others.map(theirs, 0x1_0000, memory.address, 2 * PAGE), -Errno.ENOMEM, "the same user's");
  t.is(others.map(theirs, 0x1_0000, memory.address, PAGE), 0);
  t.is(b.option({ option_id: RLIMIT_MODE, op: SET, val64: 1 }), -Errno.EBUSY, 'too late');
  const fresh = new IommufdUser(other);
  const mode = (op: number, val64 = 0): number =>
    fresh.call(uapi.IOMMU_OPTION, uapi.IommuOption, { option_id: RLIMIT_MODE, op, val64 }).result;
  t.is(mode(SET, 2), -Errno.EINVAL);
  t.is(mode(SET, 1), 0);
  t.is(others.unmap(theirs, 0x1_0000, PAGE), 0);
  other.close(second.fd);
  const again = fresh.bind('/dev/vfio/devices/vfio1');
  const own = fresh.ioas();
  t.true(fresh.attach(again.fd, own) >= 0);
  t.is(fresh.map(own, 0x1_0000, memory.address, 2 * PAGE), 0, 'by process');
  t.deepEqual(bench.host.dump()['pinned'], [
    { payer: 'user root', pages: 3 },
    { payer: 'process other', pages: 2 },
  ]);
  other[Symbol.dispose]();
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'user root', pages: 3 }], 'an exit gives everything back');
});

test('3.6/16: RLIMIT_MODE is for the privileged, of the whole context, and SET, GET or nothing', t => {
  const { bench } = new IommufdBench(t);
  const user = new IommufdUser(bench.host.process('plain', 'alice'));
  const call = (values: object): unknown => {
    const { result, out } = user.call(uapi.IOMMU_OPTION, uapi.IommuOption, { option_id: RLIMIT_MODE, ...values });
    return result === 0 ? out.val64 : result;
  };
  t.is(call({ op: SET, val64: 1 }), -Errno.EPERM);
  t.is(call({ op: GET }), 0);
  t.is(call({ op: 5 }), -Errno.EOPNOTSUPP);
  t.is(call({ op: GET, object_id: 1 }), -Errno.EOPNOTSUPP);
});

test('3.6/16: the owner exits while another holds the file: its memory cannot be pinned any more, its pins stay', t => {
  const b = new IommufdBench(t);
  const { user, bench, process } = b;
  const ioas = user.ioas();
  const device = b.bind(0);
  const { address } = user.memory(2 * PAGE);
  b.map(ioas, { user_va: address, length: PAGE, iova: 0x1_0000 });
  t.true(user.attach(device.fd, ioas) >= 0);
  t.true(b.dmaWrite(0x1_0000, 0x42));
  const heir = bench.host.process('heir');
  const fd = process.send(user.fd, heir);
  const deviceFd = process.send(device.fd, heir);
  process[Symbol.dispose]();
  t.is(b.dmaRead(0x1_0000), 0x42, 'pinned pages outlive the process');
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'user root', pages: 1 }]);
  const change = (): number => heir.ioctl(fd, uapi.IOMMU_IOAS_CHANGE_PROCESS, Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0));
  t.is(change(), -Errno.EINVAL, 'memory of a process cannot change hands');
  t.is(heir.close(deviceFd), 0);
  t.is(heir.close(fd), 0);
  t.deepEqual(bench.host.dump()['pinned'], []);
});

test('3.6/16: a device that was given away answers whoever asks: descriptors are the caller’s', t => {
  const b = new IommufdBench(t);
  const { bench, process } = b;
  const heir = bench.host.process('heir');
  const fd = process.send(b.bind(0).fd, heir);
  process[Symbol.dispose]();
  const flags = uapi.VfioIrqSetFlag.ACTION_TRIGGER | uapi.VfioIrqSetFlag.DATA_EVENTFD;
  const set = uapi.VfioIrqSet.encode({ argsz: 24, flags, index: uapi.VfioPciIrq.MSI, start: 0, count: 1 });
  const connect = (eventfd: number): number =>
    heir.ioctl(fd, uapi.VFIO_DEVICE_SET_IRQS, Uint8Array.of(...set, eventfd, 0, 0, 0));
  t.is(connect(99), -Errno.EBADF);
  t.is(connect(heir.eventfd()), 0);
});

test('3.6/16: IOAS_CHANGE_PROCESS moves what is mapped from files, and who pays; ENOMEM leaves it where it was', t => {
  const b = new IommufdBench(t, { kernel: { memlock: 3 * PAGE } });
  const { user, bench, process } = b;
  t.is(b.option({ option_id: RLIMIT_MODE, op: SET, val64: 1 }), 1);
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  b.mapFile(ioas, { fd: process.memfd(2 * PAGE), start: 0, length: 2 * PAGE, iova: 0x1_0000 });
  const heir = bench.host.process('heir');
  const fd = process.send(user.fd, heir);
  const change = (): number => heir.ioctl(fd, uapi.IOMMU_IOAS_CHANGE_PROCESS, Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0));
  bench.host.knobs.memlock = PAGE;
  t.is(change(), -Errno.ENOMEM);
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'process vmm', pages: 2 }]);
  bench.host.knobs.memlock = 2 * PAGE;
  t.is(change(), 0);
  t.deepEqual(bench.host.dump()['pinned'], [{ payer: 'process heir', pages: 2 }]);
  t.true(b.dmaWrite(0x1_0000, 1), 'nothing else has changed');
});

test('3.6/19: a limit on every page of a large mapping: ENOMEM, and nothing of it stays', t => {
  const b = new IommufdBench(t);
  const { user, bench } = b;
  const ioas = user.ioas();
  user.attach(b.bind(0).fd, ioas);
  const { address } = user.memory(64 * PAGE);
  const before = JSON.stringify(bench.host.dump());
  for (let limit = 0; limit < 64; limit++) {
    bench.host.knobs.memlock = limit * PAGE;
    t.is(b.map(ioas, { user_va: address, length: 64 * PAGE, iova: 0x1_0000 }), -Errno.ENOMEM);
    t.is(JSON.stringify(bench.host.dump()), before);
  }
  bench.host.knobs.memlock = 64 * PAGE;
  t.deepEqual(b.map(ioas, { user_va: address, length: 64 * PAGE, iova: 0x1_0000 }), { iova: 0x1_0000 });
});
