/** GET_VMID and SET_VMID of containers of the VMID series: as they were meant, and with each defect of vsva.md 5.5. */
import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import {
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_VMID,
  VFIO_IOMMU_SET_VMID,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  viewOf,
} from '@remora/uapi';
import { bench, type Bench, opened, pointerTo } from '../bench.test.helper.js';
import type { HostProcess } from '../process.js';
import type { VmidDefects } from './vmid-defects.js';

const INVALID = 0xffff_ffff;

function vmidBench(vmidDefects: VmidDefects = {}): Bench {
  return bench({ kernel: { uapi: 'vmid-rfc-v2', vmidDefects } });
}

function get(process: HostProcess, container: number): number {
  const bytes = new Uint8Array(4);
  const result = process.ioctl(container, VFIO_IOMMU_GET_VMID, bytes);
  return result < 0 ? result : viewOf(bytes).getUint32(0, true);
}

function set(process: HostProcess, container: number, vmid: number): number {
  return process.ioctl(container, VFIO_IOMMU_SET_VMID, vmid);
}

/** A container with `group` and this VMID, and what SET_IOMMU says. */
function nest(
  process: HostProcess,
  group: number,
  vmid?: number,
): { container: number; groups: number[]; result: number } {
  const { container, groups } = opened(process, group);
  if (vmid !== undefined && set(process, container, vmid) !== 0) throw new Error(`SET_VMID ${vmid}`);
  return { container, groups, result: process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU) };
}

function tags({ driver }: Bench): number[] {
  return [...driver.domains].map(domain => domain.id);
}

test('a fresh container has none; the invalid value, 0 and a pointer are refused; no IOMMU is needed', t => {
  const { host } = owner(t)(vmidBench());
  const process = host.process('vm0');
  const container = process.open('/dev/vfio/vfio');
  t.is(get(process, container), INVALID);
  for (const wrong of [INVALID, 0, -1, 2 ** 32]) t.is(set(process, container, wrong), -Errno.EINVAL);
  t.is(process.ioctl(container, VFIO_IOMMU_SET_VMID, new Uint8Array(4)), -Errno.EINVAL);
  t.is(get(process, container), INVALID);
  t.is(set(process, container, 7), 0);
  t.is(get(process, container), 7);
  t.is(process.ioctl(container, VFIO_IOMMU_GET_VMID, new Uint8Array(3)), -Errno.EFAULT);
  t.is(process.ioctl(container, VFIO_IOMMU_GET_VMID, 0x1000), -Errno.EFAULT);
});

test('without one SET_IOMMU takes what the driver chose; it is forgotten with the domain', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const { container, groups } = nest(process, 1);
  t.is(get(process, container), 1);
  t.deepEqual(tags(made), [1]);
  t.deepEqual(made.host.dump()['vmids'], [{ vmid: 1, owner: 'vm0', domains: 1 }]);
  t.is(process.ioctl(groups[0]!, VFIO_GROUP_UNSET_CONTAINER), 0);
  t.is(get(process, container), INVALID);
  t.deepEqual(made.host.dump()['vmids'], []);
});

test('one that was set before SET_IOMMU is used; the container keeps it when its domain goes', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const { container, groups, result } = nest(process, 1, 0x33);
  t.is(result, 0);
  t.deepEqual([get(process, container), ...tags(made)], [0x33, 0x33]);
  process.ioctl(groups[0]!, VFIO_GROUP_UNSET_CONTAINER);
  t.is(get(process, container), 0x33);
  t.is(process.ioctl(groups[0]!, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), 0);
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), 0);
  t.deepEqual(tags(made), [0x33]);
});

test('set after SET_IOMMU it changes the number of the container, and not the domain', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const { container } = nest(process, 1);
  made.driver.takeCalls();
  t.is(set(process, container, 0x44), 0);
  t.deepEqual([get(process, container), ...tags(made)], [0x44, 1]);
  t.deepEqual(made.driver.takeCalls(), []);
});

for (const type of [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU]) {
  test(`a container of type ${type} keeps its number to itself`, t => {
    const made = owner(t)(vmidBench());
    const process = made.host.process('vm0');
    const { container } = opened(process, 1);
    t.is(set(process, container, 0x55), 0);
    t.is(process.ioctl(container, VFIO_SET_IOMMU, type), 0);
    t.deepEqual([get(process, container), ...tags(made)], [0x55, 1]);
    t.false(made.driver.takeCalls().some(call => call.startsWith('setTag')));
    const other = opened(process, 2);
    t.is(process.ioctl(other.container, VFIO_SET_IOMMU, type), 0);
    t.is(get(process, other.container), INVALID);
  });
}

test('containers of a process share one; it is free when the last of them is gone', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const first = nest(process, 1);
  const second = nest(process, 2, get(process, first.container));
  t.is(second.result, 0);
  t.deepEqual(tags(made), [1, 1]);
  t.deepEqual(made.host.dump()['vmids'], [{ vmid: 1, owner: 'vm0', domains: 2 }]);
  process.ioctl(first.groups[0]!, VFIO_GROUP_UNSET_CONTAINER);
  const stranger = made.host.process('vm1');
  process.close(first.groups[0]!);
  t.is(nest(stranger, 1, 1).result, -Errno.EACCES, 'the second one still has it');
  process[Symbol.dispose]();
  t.deepEqual(made.host.dump()['vmids'], []);
  t.deepEqual(tags(made), []);
  t.is(nest(stranger, 2, 1).result, 0, 'nobody has it any more');
});

test("another process's is refused, and the container can try another", t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  nest(process, 1);
  const before = made.host.dump();
  const stranger = made.host.process('vm1');
  const { container, groups, result } = nest(stranger, 2, 1);
  t.is(result, -Errno.EACCES);
  t.deepEqual(tags(made), [1]);
  t.is(get(stranger, container), 1, 'the number stays, and the IOMMU is not set');
  t.is(set(stranger, container, 9), 0);
  t.is(stranger.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), 0);
  t.deepEqual(tags(made), [1, 9]);
  stranger.close(groups[0]!);
  stranger[Symbol.dispose]();
  t.deepEqual(made.host.dump(), before);
});

test('the tag of a domain that has no VMID is refused, whoever it is', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const plain = opened(process, 1);
  t.is(process.ioctl(plain.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
  t.is(nest(process, 2, 1).result, -Errno.EBUSY);
  t.deepEqual(tags(made), [1]);
});

test('one that the unit does not have is refused where the domain would take it', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const before = made.host.dump();
  const { container, groups, result } = nest(process, 1, 0x1_0105);
  t.is(result, -Errno.EINVAL);
  t.deepEqual(tags(made), []);
  process.close(groups[0]!);
  process.close(container);
  process[Symbol.dispose]();
  t.deepEqual({ ...made.host.dump(), processes: before['processes'] }, before);
});

test('a group that joins later shares the tag; one that cannot be attached leaves nothing', t => {
  const made = owner(t)(vmidBench());
  const process = made.host.process('vm0');
  const { container } = nest(process, 1, 0x33);
  const group = process.open('/dev/vfio/2');
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), 0);
  t.is([...made.driver.domains][0]!.attached.size, 2);
  process[Symbol.dispose]();

  const again = made.host.process('vm1');
  const before = made.host.dump();
  made.driver.fail('attach', Errno.EIO);
  const { result, groups } = nest(again, 1, 0x34);
  t.is(result, -Errno.EIO);
  again.close(groups[0]!);
  again.close(3);
  t.deepEqual(made.host.dump(), before);
});

test('defect 1, Q19: GET after attach is EPERM, so that nesting without a VMID fails', t => {
  for (const getAfterAttach of [false, true]) {
    using made = vmidBench({ getAfterAttach });
    const process = made.host.process('vm0');
    t.is(nest(process, 1).result, getAfterAttach ? -Errno.EPERM : 0);
    t.is(tags(made).length, getAfterAttach ? 0 : 1);
    t.is(nest(process, 2, 0x33).result, 0);
  }
});

test('defect 2: 0 is taken and ignored', t => {
  using made = vmidBench({ zeroIsUnset: true });
  const process = made.host.process('vm0');
  const { container, result } = nest(process, 1, 0);
  t.is(result, 0);
  t.deepEqual([get(process, container), ...tags(made)], [0, 1]);
});

test('defect 3: a VMID beyond the unit is cut to 16 bits', t => {
  using made = vmidBench({ truncated: true });
  const process = made.host.process('vm0');
  const { container, result } = nest(process, 1, 0x1_0105);
  t.is(result, 0);
  t.deepEqual([get(process, container), ...tags(made)], [0x1_0105, 0x105]);
});

test("defect 4: another process's VMID can be had", t => {
  using made = vmidBench({ unowned: true });
  nest(made.host.process('vm0'), 1);
  t.is(nest(made.host.process('vm1'), 2, 1).result, 0);
  t.deepEqual(tags(made), [1, 1]);
});

test('defect 7: the kernel dies of a domain with a VMID that was not attached', t => {
  for (const diesUnattached of [false, true]) {
    using made = vmidBench({ diesUnattached });
    const process = made.host.process('vm0');
    made.driver.fail('attach', Errno.EIO);
    t.is(nest(process, 1, 0x33).result, -Errno.EIO);
    process[Symbol.dispose]();
    t.is(tags(made).length, diesUnattached ? 1 : 0, 'what is left of it');
    made.driver.fail('attach', Errno.EIO);
    t.is(nest(made.host.process('vm1'), 1).result, -Errno.EIO);
    t.is(tags(made).length, diesUnattached ? 1 : 0, 'one that was given none does no harm');
  }
});
