/** peers.md 3.6, 11: rings in a guest's memory that the unit reads by itself. */
import test, { type ExecutionContext } from 'ava';
import { Errno, PAGE_BYTES, Ram } from '@remora/core';
import { SmmuType } from '@remora/testing';
import { IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc } from '@remora/uapi';
import { GuestSte, MEMORY_AT, MEMORY_BYTES, nested, smmuHost, viommuOf, vmOf } from './smmu-host.test.helper.js';

const TYPE = SmmuType.HW_QUEUE_CMDQV;

function lent(t: ExecutionContext, queues = 3) {
  const host = smmuHost(t, { queues });
  const viommu = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
  const { user } = host;
  const alloc = (index: number, iova: number | bigint, length: number | bigint, type: number = TYPE): number =>
    user.hardwareQueue(viommu, type, index, iova, length);
  return { host, viommu, user, alloc };
}

test('3.6/11: what is refused, and nothing stays locked by it', t => {
  const { user, viommu, alloc, host } = lent(t);
  t.is(alloc(0, MEMORY_AT, 0), -Errno.EINVAL);
  t.is(alloc(0, 0xffff_ffff_ffff_f000n, 0x1001n), -Errno.EOVERFLOW);
  t.is(alloc(0, MEMORY_AT, 0x1000, 0), -Errno.EOPNOTSUPP);
  t.is(alloc(0, MEMORY_AT, 0x1000, 77), -Errno.EOPNOTSUPP);
  t.is(user.hardwareQueue(999, TYPE, 0, MEMORY_AT, 0x1000), -Errno.ENOENT);
  t.is(user.hardwareQueue(host.ioas, TYPE, 0, MEMORY_AT, 0x1000), -Errno.ENOENT);
  t.is(alloc(0, MEMORY_AT + MEMORY_BYTES, 0x1000), -Errno.ENOENT, 'not mapped');
  t.is(alloc(0, MEMORY_AT + MEMORY_BYTES - 0x1000, 0x2000), -Errno.ENOENT, 'half of it');
  t.is(alloc(0, 0xffff_ffff_ffff_f000n, 0x1000n), -Errno.ENOENT, 'the very end does not overflow');
  t.is(alloc(0, MEMORY_AT, 0x2000), -Errno.EFAULT, 'pages that are no neighbours on the host');
  t.is(alloc(3, MEMORY_AT, 0x1000), -Errno.EINVAL, 'beyond the last index');
  t.is(alloc(1, MEMORY_AT, 0x1000), -Errno.EIO, 'not the next one');
  const values = { flags: 1, viommu_id: viommu, type: TYPE, nesting_parent_iova: MEMORY_AT, length: 0x1000 };
  t.is(user.call(IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc, values).result, -Errno.EOPNOTSUPP);
  t.is(user.destroy(viommu), 0);
  t.is(user.destroy(host.parent), 0);
  t.is(user.unmap(host.ioas, MEMORY_AT, MEMORY_BYTES), 0);
});

test('a vIOMMU without hardware queues takes none', t => {
  const host = smmuHost(t);
  t.is(host.user.hardwareQueue(viommuOf(t, host), TYPE, 0, MEMORY_AT, 0x1000), -Errno.EOPNOTSUPP);
});

test('3.6/11: ascending from 0, each once; destroyed in descending order', t => {
  const { user, alloc } = lent(t);
  const first = alloc(0, MEMORY_AT, 0x1000);
  t.true(first > 0);
  t.is(alloc(0, MEMORY_AT + 0x1000, 0x1000), -Errno.EEXIST);
  t.is(alloc(2, MEMORY_AT + 0x1000, 0x1000), -Errno.EIO);
  const second = alloc(1, MEMORY_AT + 0x1000, 0x1000);
  const third = alloc(2, MEMORY_AT + 0x2000, 0x800);
  t.true(second > 0 && third > 0);
  t.deepEqual([user.destroy(first), user.destroy(second)], [-Errno.EBUSY, -Errno.EBUSY]);
  t.is(user.destroy(third), 0);
  t.is(user.destroy(first), -Errno.EBUSY);
  t.is(user.destroy(second), 0);
  t.is(user.destroy(first), 0);
  t.true(alloc(0, MEMORY_AT, 0x1000) > 0, 'and again from the beginning');
});

test('the unit reads just the bytes that the guest has there', t => {
  const { host, alloc, viommu } = lent(t);
  const { user, devices, vmm, address, driver, bench } = host;
  t.is(user.attach(devices[0].fd, nested(host, viommu, GuestSte.BYPASS)), 0);
  t.true(alloc(0, MEMORY_AT + 0x2000, 0x1000) > 0);
  t.true(alloc(1, MEMORY_AT + 0x3040, 0x40) > 0);
  const commands = Uint8Array.from({ length: 0x40 }, (_, index) => index);
  vmm.memory.write(address + 0x2000, commands);
  vmm.memory.write(address + 0x3040, commands);
  for (const { base, length } of vmOf(driver, devices[0].requesterId).queues.values()) {
    const seen = new Uint8Array(commands.length);
    bench.host.memory.read(Math.floor(base / 2 ** 32), base % 2 ** 32, seen);
    t.deepEqual(seen, commands);
    t.is(base % length, 0);
  }
});

test('a queue of several pages, where they are neighbours on the host', t => {
  const host = smmuHost(t, { queues: 1 }, { ram: Ram.allocate(0x100_0000) });
  const { user, devices, driver, vmm, address, bench } = host;
  const viommu = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
  t.is(user.attach(devices[0].fd, nested(host, viommu, GuestSte.BYPASS)), 0);
  const rings = [0, 0x1000].map(at => user.hardwareQueue(viommu, TYPE, 0, MEMORY_AT + at, 0x2000));
  const at = rings[0]! > 0 ? 0 : 0x1000;
  t.true(
    rings.some(ring => ring > 0),
    'one of them is aligned on the host, as the unit wants it',
  );
  vmm.memory.write(address + at + 0x1ffc, Uint8Array.of(1, 2, 3, 4));
  const { base, length } = vmOf(driver, devices[0].requesterId).queues.get(0)!;
  const seen = new Uint8Array(4);
  bench.host.memory.read(0, base + length - 4, seen);
  t.deepEqual([...seen], [1, 2, 3, 4]);
});

test('3.6/11: the memory of a queue stays mapped, and where it is', t => {
  const { host, alloc } = lent(t);
  const { user, ioas, vmm, address, bench } = host;
  const ring = alloc(0, MEMORY_AT, 0x1000);
  t.is(user.unmap(ioas, MEMORY_AT, MEMORY_BYTES), -Errno.EBUSY);
  t.is(user.unmap(ioas, 0, 0xffff_ffff_ffff_ffffn), -Errno.EBUSY);
  const frames = bench.host.dump()['frames'] as number;
  vmm.munmap(address as never, MEMORY_BYTES);
  t.is(bench.host.dump()['frames'], frames, 'the process lets go of it, the unit does not');
  t.is(user.destroy(ring), 0);
  t.is(user.unmap(ioas, MEMORY_AT, MEMORY_BYTES), 0);
  t.is(bench.host.dump()['frames'], frames - MEMORY_BYTES / PAGE_BYTES);
});

test('a VMM that ends takes its queues along, the last first', t => {
  const { host, alloc } = lent(t);
  for (const index of [0, 1, 2]) t.true(alloc(index, MEMORY_AT + index * 0x1000, 0x1000) > 0);
  host.vmm[Symbol.dispose]();
  t.is(host.driver.domains.size, 0);
  t.like(host.bench.host.dump(), { frames: 0 });
});
