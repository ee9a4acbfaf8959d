/** What needs an I/O address space keeps it: EBUSY, until it is released (peers.md 3.6, number 2). */
import test from 'ava';
import { Errno } from '@remora/core';
import * as uapi from '@remora/uapi';
import { opened } from '../../bench.test.helper.js';
import { IommufdBench, PAGE, U64_MAX } from './iommufd.test.helper.js';

/** Makes something depend on the address space; returns how it is let go. */
const DEPENDENTS: Readonly<Record<string, (b: IommufdBench, ioas: number) => () => unknown>> = {
  'a page table of it': (b, ioas) => {
    const hwpt = b.user.hwpt(b.bind(0).id, ioas);
    return () => b.user.destroy(hwpt);
  },
  'a device that is attached to it': (b, ioas) => {
    const { fd } = b.bind(0);
    b.user.attach(fd, ioas);
    return () => b.user.detach(fd);
  },
  'a device that is attached to it, and goes': (b, ioas) => {
    const { fd } = b.bind(0);
    b.user.attach(fd, ioas);
    return () => b.process.close(fd);
  },
  'a device that is replaced': (b, ioas) => {
    const { fd } = b.bind(0);
    b.user.attach(fd, ioas);
    return () => b.user.attach(fd, b.user.ioas());
  },
};

for (const [what, depend] of Object.entries(DEPENDENTS)) {
  test(`3.6/2: ${what} keeps it`, t => {
    const b = new IommufdBench(t);
    const ioas = b.user.ioas();
    const { address } = b.user.memory(PAGE);
    b.map(ioas, { user_va: address, length: PAGE, iova: 0x1_0000 });
    const release = depend(b, ioas);
    t.is(b.user.destroy(ioas), -Errno.EBUSY);
    t.deepEqual(b.map(ioas, { user_va: address, length: PAGE, iova: 0x2_0000 }), { iova: 0x2_0000 }, 'it is there');
    t.true(Number(release()) >= 0);
    t.is(b.user.destroy(ioas), 0);
    t.is(b.user.destroy(ioas), -Errno.ENOENT);
    t.is(b.map(ioas, { user_va: address, length: PAGE, iova: 0x3_0000 }), -Errno.ENOENT);
    t.deepEqual(b.bench.host.dump()['pinned'], []);
  });
}

test('3.6/2: mappings, and copies of them elsewhere, keep nothing', t => {
  const b = new IommufdBench(t);
  const [from, to] = [b.user.ioas(), b.user.ioas()];
  const { address, ram } = b.user.memory(PAGE);
  ram.write(0, 0, Uint8Array.of(6));
  b.map(from, { user_va: address, length: PAGE, iova: 0x1_0000 });
  b.copy(to, from, { src_iova: 0x1_0000, length: PAGE, dst_iova: 0x2_0000 });
  t.is(b.user.destroy(from), 0);
  b.user.attach(b.bind(0).fd, to);
  t.is(b.dmaRead(0x2_0000), 6);
});

test('ids: the lowest that is free, from 1 on; of another kind is ENOENT', t => {
  const { user, ...b } = new IommufdBench(t);
  const ids = [user.ioas(), user.ioas(), user.ioas()];
  t.deepEqual(ids, [1, 2, 3]);
  t.is(user.destroy(2), 0);
  t.is(user.ioas(), 2);
  const { id } = user.bind('/dev/vfio/devices/vfio0');
  t.is(user.unmap(id, 0, U64_MAX), -Errno.ENOENT);
  t.is(user.destroy(id), -Errno.EBUSY, "a bound device is its descriptor's");
  t.is(user.destroy(0), -Errno.ENOENT);
  t.is(b.process.close(user.fd), 0);
});

test('closing /dev/iommu gives everything back, but for what bound devices need; and then with the last of those', t => {
  const b = new IommufdBench(t);
  const before = { ...b.bench.host.dump(), processes: 0, frames: 0 };
  const ioas = b.user.ioas();
  const { fd } = b.bind(0);
  const { address } = b.user.memory(PAGE);
  b.user.attach(fd, ioas);
  b.map(ioas, { user_va: address, length: PAGE, iova: 0x1_0000 });
  t.is(b.user.close(), 0);
  t.true(b.dmaWrite(0x1_0000, 1), 'the device goes on');
  t.is(b.process.close(fd), 0);
  t.false(b.dmaWrite(0x1_0000, 2));
  const after = { ...b.bench.host.dump(), processes: 0, frames: 0 };
  t.is(JSON.stringify(after).replaceAll('"busMaster":true', '"busMaster":false'), JSON.stringify(before));
});

test('a function is lent in one way at a time: container or iommufd', t => {
  const b = new IommufdBench(t);
  const { container, groups } = opened(b.process, 1);
  t.is(b.process.ioctl(container, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU), 0);
  t.throws(() => b.user.bind('/dev/vfio/devices/vfio0'), { message: /-16/ });
  b.process.close(groups[0]!);
  t.true(b.bind(0).id > 0);
  t.is(b.process.open('/dev/vfio/1'), -Errno.EBUSY);
});
