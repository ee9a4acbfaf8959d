import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VfioGroupFlag,
  VfioGroupStatus,
  viewOf,
} from '@remora/uapi';
import {
  bench,
  deviceOf,
  ENGINE,
  ENGINE_ID,
  gadget,
  opened,
  pointerTo,
  ready,
  SECOND,
  SECOND_ID,
} from '../bench.test.helper.js';
import { simulatedHost } from '../simulated-host.js';

function statusOf(
  process: { ioctl(fd: number, request: number, argument: Uint8Array): number },
  group: number,
): number {
  const bytes = VfioGroupStatus.encode({ argsz: VfioGroupStatus.size });
  const result = process.ioctl(group, VFIO_GROUP_GET_STATUS, bytes);
  return result < 0 ? result : VfioGroupStatus.fields.flags.get(viewOf(bytes));
}

test('descriptors are the lowest free ones, and unknown ones are refused', t => {
  const { host } = owner(t)(bench());
  const process = host.process('vmm');
  t.deepEqual([process.eventfd(), process.open('/dev/vfio/vfio'), process.eventfd()], [3, 4, 5]);
  t.is(process.close(4), 0);
  t.is(process.close(4), -Errno.EBADF);
  t.is(process.open('/dev/vfio/vfio'), 4);
  t.is(process.ioctl(17, VFIO_GET_API_VERSION), -Errno.EBADF);
  t.is(process.pread(17, new Uint8Array(8), 0), -Errno.EBADF);
  t.is(process.pwrite(17, new Uint8Array(8), 0), -Errno.EBADF);
  t.is(process.ioctl(3, VFIO_GET_API_VERSION), -Errno.ENOTTY, 'an eventfd knows no ioctl');
  t.is(process.pread(4, new Uint8Array(8), 0), -Errno.EINVAL, 'a container cannot be read');
});

test('what there is to open', t => {
  const { host } = owner(t)(bench());
  const process = host.process('vmm');
  for (const path of ['/dev/vfio/3', '/dev/vfio/x', '/dev/vfio/01', '/dev/null', '']) {
    t.is(process.open(path), -Errno.ENOENT, path);
  }
  t.true(process.open('/dev/vfio/2') > 0);
  t.is(process.readlink(`/sys/bus/pci/devices/${SECOND}/iommu_group`), '../../../kernel/iommu_groups/2');
  t.is(process.readlink(`/sys/bus/pci/devices/${SECOND}/driver`), '../../../bus/pci/drivers/vfio-pci');
  t.is(process.readlink('/sys/bus/pci/devices/0000:00:01.0/driver'), -Errno.ENOENT);
});

test('without an IOMMU there are no groups: VFIO lends nothing that it cannot fence in', t => {
  const process = owner(t)(simulatedHost({ memory: 0x10_0000, devices: [gadget(ENGINE)] })).process('vmm');
  t.is(process.open('/dev/vfio/1'), -Errno.ENOENT);
  t.is(process.readlink(`/sys/bus/pci/devices/${ENGINE}/iommu_group`), -Errno.ENOENT);
  t.true(process.open('/dev/vfio/vfio') > 0, 'VFIO itself is there');
});

test('only what is bound to vfio-pci is lent, and a group only as a whole', t => {
  const { host } = owner(t)(
    bench({
      devices: [
        { ...gadget(ENGINE), group: 'a' },
        { ...gadget(SECOND), group: 'a', boundTo: 'e1000e' },
        { ...gadget('0000:3f:02.0'), boundTo: null },
      ],
    }),
  );
  const process = host.process('vmm');
  const { groups, container } = opened(process, 1);
  t.is(statusOf(process, groups[0]!), VfioGroupFlag.CONTAINER_SET, 'not viable');
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
  t.is(deviceOf(process, groups[0]!, ENGINE), -Errno.EINVAL);
  t.is(process.readlink(`/sys/bus/pci/devices/${SECOND}/driver`), '../../../bus/pci/drivers/e1000e');
  t.is(process.readlink('/sys/bus/pci/devices/0000:3f:02.0/driver'), -Errno.ENOENT);
  t.is(process.open('/dev/vfio/2'), -Errno.ENOENT, 'nothing in it is bound to vfio-pci');
});

test('a group is opened by one at a time', t => {
  const { host } = owner(t)(bench());
  const one = host.process('one');
  const other = host.process('other');
  const fd = one.open('/dev/vfio/1');
  t.is(other.open('/dev/vfio/1'), -Errno.EBUSY);
  one.close(fd);
  t.true(other.open('/dev/vfio/1') > 0);
});

test('a group joins one container, and only a container', t => {
  const { host } = owner(t)(bench());
  const process = host.process('vmm');
  const group = process.open('/dev/vfio/1');
  t.is(statusOf(process, group), VfioGroupFlag.VIABLE);
  t.is(process.ioctl(group, VFIO_GROUP_UNSET_CONTAINER), -Errno.EINVAL);
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, pointerTo(99)), -Errno.EBADF);
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, pointerTo(process.eventfd())), -Errno.EINVAL);
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, new Uint8Array(2)), -Errno.EFAULT);
  const container = process.open('/dev/vfio/vfio');
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), 0);
  t.is(statusOf(process, group), VfioGroupFlag.VIABLE | VfioGroupFlag.CONTAINER_SET);
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), -Errno.EINVAL);
  t.is(process.ioctl(group, VFIO_GROUP_UNSET_CONTAINER), 0);
  t.is(statusOf(process, group), VfioGroupFlag.VIABLE);
  t.is(process.ioctl(group, 0x3bff), -Errno.ENOTTY);
});

test('SET_IOMMU: needs a group, once, of a type that is offered', t => {
  const { host, driver } = owner(t)(bench());
  const process = host.process('vmm');
  const empty = process.open('/dev/vfio/vfio');
  t.is(process.ioctl(empty, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -Errno.EINVAL);
  t.is(process.ioctl(empty, VFIO_IOMMU_GET_INFO, new Uint8Array(24)), -Errno.EINVAL, 'no IOMMU, no IOMMU ioctls');
  const { container } = opened(process, 1);
  t.is(process.ioctl(container, VFIO_SET_IOMMU, 7), -Errno.ENODEV);
  t.is(process.ioctl(container, VFIO_SET_IOMMU, new Uint8Array(4)), -Errno.ENODEV, 'the type is no pointer');
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -Errno.EINVAL);
  t.deepEqual(driver.takeCalls(), ['attach 1 0x3f00']);
});

test('which extensions are offered depends on the unit and the kernel', t => {
  const own = owner(t);
  const asked = (options: Parameters<typeof bench>[0]): number[] => {
    const process = own(bench(options)).host.process('vmm');
    const fd = process.open('/dev/vfio/vfio');
    return [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_NESTING_IOMMU, 9, 7, 55].map(extension =>
      process.ioctl(fd, VFIO_CHECK_EXTENSION, extension),
    );
  };
  t.deepEqual(asked({}), [1, 1, 1, 1, 0, 0]);
  t.deepEqual(asked({ unit: { stage1Format: 0 } }), [1, 1, 0, 1, 0, 0], 'the unit cannot nest');
  t.deepEqual(asked({ kernel: { nestingType: false } }), [1, 1, 0, 1, 0, 0]);
  t.deepEqual(asked({ kernel: { nestingUapiVersion: 0 } }), [1, 1, 1, 0, 0, 0]);
  t.deepEqual(asked({ kernel: { nestingUapiVersion: -Errno.ENOTTY } }), [1, 1, 1, -Errno.ENOTTY, 0, 0]);
});

test('all groups of a container are attached to one domain, or none', t => {
  const { host, driver } = owner(t)(bench());
  const process = host.process('vmm');
  const { container } = opened(process, 1, 2);
  driver.fail('attach', Errno.EIO, 2);
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -Errno.EIO);
  t.is(driver.domains.size, 0);
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
  t.is(driver.domainOf(ENGINE_ID), driver.domainOf(SECOND_ID));
});

test('a group that joins a container with an IOMMU is attached at once; if that fails it is outside', t => {
  const { host, driver } = owner(t)(bench());
  const process = host.process('vmm');
  const { container } = ready(process, VFIO_TYPE1v2_IOMMU, 1);
  const second = process.open('/dev/vfio/2');
  driver.fail('attach', Errno.EIO);
  t.is(process.ioctl(second, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), -Errno.EIO);
  t.is(statusOf(process, second), VfioGroupFlag.VIABLE);
  t.is(process.ioctl(second, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), 0);
  t.is(driver.domainOf(SECOND_ID), driver.domainOf(ENGINE_ID));
});

test('a device needs its container to have an IOMMU, and its own group', t => {
  const { host } = owner(t)(bench());
  const process = host.process('vmm');
  const { container, groups } = opened(process, 1);
  t.is(deviceOf(process, groups[0]!, ENGINE), -Errno.EINVAL);
  process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  t.is(deviceOf(process, groups[0]!, SECOND), -Errno.ENODEV);
  t.true(deviceOf(process, groups[0]!, ENGINE) > 0);
});

test('an open device holds group and container, whatever else is closed', t => {
  const { host, driver } = owner(t)(bench());
  const process = host.process('vmm');
  const { container, groups } = ready(process, VFIO_TYPE1v2_IOMMU, 1);
  const device = deviceOf(process, groups[0]!, ENGINE);
  t.is(process.ioctl(groups[0]!, VFIO_GROUP_UNSET_CONTAINER), -Errno.EBUSY);
  process.close(container);
  process.close(groups[0]!);
  t.is(driver.domains.size, 1);
  t.is(process.open('/dev/vfio/1'), -Errno.EBUSY, 'an old opening is still in use');
  process.close(device);
  t.is(driver.domains.size, 0);
  t.true(process.open('/dev/vfio/1') > 0);
});

test('the last group takes the IOMMU along, and the container can be used again', t => {
  const { host, driver } = owner(t)(bench());
  const process = host.process('vmm');
  const { container, groups } = ready(process, VFIO_TYPE1v2_IOMMU, 1, 2);
  process.ioctl(groups[0]!, VFIO_GROUP_UNSET_CONTAINER);
  t.is(driver.domainOf(ENGINE_ID), undefined);
  t.not(driver.domainOf(SECOND_ID), undefined);
  process.ioctl(groups[1]!, VFIO_GROUP_UNSET_CONTAINER);
  t.is(driver.domains.size, 0);
  process.ioctl(groups[0]!, VFIO_GROUP_SET_CONTAINER, pointerTo(container));
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), 0);
});

test('a process that ends leaves nothing behind', t => {
  const { host } = owner(t)(bench());
  const before = host.dump();
  const process = host.process('vmm');
  const { groups } = ready(process, VFIO_TYPE1_NESTING_IOMMU, 1, 2);
  deviceOf(process, groups[0]!, ENGINE);
  process.mmap(0x8000);
  process.eventfd();
  t.notDeepEqual(host.dump(), before);
  process[Symbol.dispose]();
  t.deepEqual(host.dump(), before);
});

test('a unit without a domain left, or a host without a page for one: SET_IOMMU says so, and may be tried again', t => {
  const { host, driver } = owner(t)(bench());
  const process = host.process('vmm');
  const container = process.open('/dev/vfio/vfio');
  const group = process.open('/dev/vfio/1');
  t.is(process.ioctl(group, VFIO_GROUP_SET_CONTAINER, pointerTo(container)), 0);
  const before = host.dump();
  for (const errno of [Errno.ENOSPC, Errno.ENOMEM]) {
    driver.fail('createDomain', errno);
    t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), -errno);
    t.deepEqual(host.dump(), before);
  }
  t.is(process.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_NESTING_IOMMU), 0);
});
