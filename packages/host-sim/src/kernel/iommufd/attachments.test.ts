/** What serves a device and its group, over the fake unit: what the driver is asked, and what is in force when it refuses (peers.md 3.6: 2, 6, 12). */
import test from 'ava';
import { Access, Errno, NO_PASID } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { owner } from '@remora/testing';
import {
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptVtdS1,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_GET_INFO,
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindIommufd,
  VfioDeviceDetachIommufdPt,
  VfioDeviceInfo,
} from '@remora/uapi';
import {
  bench,
  type BenchOptions,
  ENGINE,
  ENGINE_ID,
  type Gadget,
  gadget,
  SECOND,
  SECOND_ID,
} from '../../bench.test.helper.js';
import { IommufdBench, PAGE } from './iommufd.test.helper.js';

const { NEST_PARENT, PASID } = IommuHwptAllocFlag;
const STAGE1 = {
  data: IommuHwptVtdS1.encode({ pgtbl_addr: 0x7000, addr_width: 48 }),
  dataType: IommuHwptDataType.VTD_S1,
};
/** Both devices in one group. */
const TOGETHER: BenchOptions = {
  devices: [
    { ...gadget(ENGINE), group: 'a' },
    { ...gadget(SECOND), group: 'a' },
  ],
};

/** The PASIDs at which the fake unit serves a function, with the domains' ids. */
function served(at: IommufdBench, requesterId = ENGINE_ID): Record<string, number> {
  const all = at.bench.driver.userOps.served.get(requesterId) ?? new Map<number, { id: number }>();
  return Object.fromEntries([...all].map(([pasid, { id }]) => [pasid === NO_PASID ? 'rid' : pasid, id]));
}

/** An address space with one page at IOVA 0x1000. */
function ioasOf(at: IommufdBench): number {
  const ioas = at.user.ioas();
  at.user.map(ioas, PAGE, at.user.memory(PAGE).address, PAGE);
  return ioas;
}

function calls(at: IommufdBench, action: () => void): string[] {
  at.bench.driver.takeCalls();
  action();
  return at.bench.driver.takeCalls().filter(call => call.startsWith('setDomain'));
}

test('3.6/6: an attach asks the driver once, and once more only for another table', t => {
  const at = new IommufdBench(t);
  const { user } = at;
  const { fd, id } = at.bind(0);
  const ioas = ioasOf(at);
  const parent = user.hwpt(id, ioas, { flags: NEST_PARENT | PASID });
  const nested = user.hwpt(id, parent, { ...STAGE1, flags: PASID });
  const asked = calls(at, () => {
    t.is(user.attach(fd, nested, 3), 0);
    t.is(user.attach(fd, nested, 3), 0);
    t.is(user.attach(fd, parent, 3), 0);
    t.is(user.detach(fd, 3), 0);
    t.is(user.detach(fd, 3), 0);
  });
  t.deepEqual(asked, ['setDomain 0x3f00 3 2', 'setDomain 0x3f00 3 1', 'setDomain 0x3f00 3 blocked']);
});

test('3.6/6: when the driver refuses, what served the device serves it still, and nothing else is in use', t => {
  const at = new IommufdBench(t);
  const {
    user,
    bench: { driver, host },
  } = at;
  const { fd, id } = at.bind(0);
  const [ioas, other] = [ioasOf(at), user.ioas()];
  const parent = user.hwpt(id, ioas, { flags: NEST_PARENT });
  const nested = user.hwpt(id, parent, STAGE1);
  t.is(user.attach(fd, parent), 0);
  const before = JSON.stringify(host.dump());
  for (const [errno, attempt] of [
    [Errno.EIO, () => user.attach(fd, nested)],
    [Errno.ENOMEM, () => user.attach(fd, other)],
  ] as const) {
    driver.fail('setDomain', errno);
    t.is(attempt(), -errno);
    t.is(JSON.stringify(host.dump()), before);
    t.deepEqual(served(at), { rid: 1 });
    t.true(at.dmaWrite(PAGE, 1));
  }
  driver.fail('createPaging', Errno.ENOSPC);
  t.is(user.attach(fd, other), -Errno.ENOSPC);
  driver.fail('mapFrames', Errno.ENOMEM);
  t.is(user.hwpt(id, ioas), -Errno.ENOMEM);
  driver.fail('createNested', Errno.ENOMEM);
  t.is(user.hwpt(id, parent, STAGE1), -Errno.ENOMEM);
  t.is(JSON.stringify(host.dump().iommu), JSON.stringify(JSON.parse(before).iommu));
  // What cannot be said to whoever detaches is in the ledger. The table may go; until then the unit has not let go of it.
  host.ledger.on = true;
  driver.fail('setDomain', Errno.EIO);
  driver.fail('setDomain', Errno.EIO, 2);
  t.is(user.detach(fd), 0);
  t.true(JSON.stringify([...host.ledger.events]).includes('blocked-detach'));
  t.deepEqual(served(at), { rid: 1 });
  t.is(user.destroy(nested), 0);
  t.is(user.destroy(parent), 0);
  t.deepEqual(served(at), {});
});

test('3.6/12: devices of a group have the same table; it is replaced for all of them, and goes with the last', t => {
  const at = new IommufdBench(t, TOGETHER);
  const {
    user,
    bench: { driver },
  } = at;
  const [one, two] = [at.bind(0), at.bind(1)];
  const ioas = ioasOf(at);
  const [table, other] = [user.hwpt(one.id, ioas), user.hwpt(one.id, ioas)];
  t.is(user.attach(one.fd, table), 0);
  t.deepEqual([served(at), served(at, SECOND_ID)], [{ rid: 1 }, { rid: 1 }], 'the unit may not tell them apart');
  t.is(user.attach(two.fd, other), -Errno.EINVAL);
  t.is(user.attach(two.fd, table), 0);
  driver.fail('setDomain', Errno.EIO, 2);
  t.is(user.attach(one.fd, other), -Errno.EIO);
  t.deepEqual([served(at), served(at, SECOND_ID)], [{ rid: 1 }, { rid: 1 }], 'both or none');
  t.is(user.attach(one.fd, other), 0);
  t.deepEqual([served(at), served(at, SECOND_ID)], [{ rid: 2 }, { rid: 2 }]);
  t.is(user.destroy(table), 0);
  t.is(user.detach(one.fd), 0);
  t.is(user.destroy(other), -Errno.EBUSY);
  t.deepEqual(served(at), { rid: 2 });
  t.is(user.detach(two.fd), 0);
  t.deepEqual([served(at), served(at, SECOND_ID)], [{}, {}]);
  t.is(user.destroy(other), 0);
});

test('a group is one iommufd’s: its other device is nobody else’s', t => {
  const at = new IommufdBench(t, TOGETHER);
  at.bind(0);
  const stranger = at.bench.host.process('stranger');
  const iommufd = stranger.open('/dev/iommu');
  const device = stranger.open('/dev/vfio/devices/vfio1');
  const bytes = VfioDeviceBindIommufd.encode({ argsz: 24, iommufd });
  t.is(stranger.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bytes), -Errno.EBUSY);
  at.bind(1);
});

test('3.6/2: what is bound is used by one, and is as new for the next', t => {
  const at = new IommufdBench(t);
  const {
    user,
    process,
    bench: { host },
  } = at;
  const before = JSON.stringify(host.dump());
  const { fd, id } = at.bind(0);
  const ioas = ioasOf(at);
  t.is(user.attach(fd, ioas), 0);
  const { resets } = host.device<Gadget>(ENGINE);
  t.true(host.function(ENGINE).pasidEnabled);
  t.is(process.close(fd), 0);
  t.is(host.device<Gadget>(ENGINE).resets, resets + 1);
  t.false(host.function(ENGINE).pasidEnabled);
  t.deepEqual(served(at), {});
  t.is(user.destroy(id), -Errno.ENOENT);
  t.is(user.unmap(ioas, 0, 2n ** 64n - 1n), 0);
  t.is(user.destroy(ioas), 0);
  t.is(JSON.stringify(host.dump().groups), JSON.stringify(JSON.parse(before).groups));
  const again = at.bind(0);
  t.is(again.fd, fd);
});

test('BIND, ATTACH and DETACH: sizes and flags; a device answers nothing before it is bound', t => {
  const { host } = owner(t)(bench());
  const process = host.process('vmm');
  const iommufd = process.open('/dev/iommu');
  const device = process.open('/dev/vfio/devices/vfio0');
  t.is(process.open('/dev/vfio/devices/vfio2'), -Errno.ENOENT);
  t.is(process.pread(device, new Uint8Array(4), 0), -Errno.EINVAL);
  t.is(process.ioctl(device, VFIO_DEVICE_GET_INFO, VfioDeviceInfo.encode({ argsz: 24 })), -Errno.EINVAL);
  const bind = (values: Parameters<typeof VfioDeviceBindIommufd.encode>[0]): number =>
    process.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, VfioDeviceBindIommufd.encode({ argsz: 24, iommufd, ...values }));
  t.is(bind({ argsz: 15 }), -Errno.EINVAL);
  t.is(bind({ flags: 2 }), -Errno.EINVAL);
  t.is(bind({ iommufd: -1 }), -Errno.EINVAL);
  t.is(bind({ iommufd: 77 }), -Errno.EBADF);
  t.is(bind({ iommufd: device }), -Errno.EBADFD);
  t.is(bind({ flags: 1, token_uuid_ptr: 0x1000 }), -Errno.EFAULT);
  t.is(process.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, new Uint8Array(8)), -Errno.EFAULT);
  t.is(bind({ argsz: 16 }), 0, 'without the token, which came later');
  t.is(bind({}), -Errno.EINVAL, 'once');
  const attach = (values: Parameters<typeof VfioDeviceAttachIommufdPt.encode>[0]): number =>
    process.ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, VfioDeviceAttachIommufdPt.encode({ argsz: 16, ...values }));
  t.is(attach({ argsz: 11 }), -Errno.EINVAL);
  t.is(attach({ flags: 2 }), -Errno.EINVAL);
  t.is(attach({ flags: 1, argsz: 12 }), -Errno.EINVAL, 'no room for the PASID');
  t.is(attach({ pt_id: 0x77 }), -Errno.ENOENT);
  const detach = (values: Parameters<typeof VfioDeviceDetachIommufdPt.encode>[0]): number =>
    process.ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, VfioDeviceDetachIommufdPt.encode({ argsz: 12, ...values }));
  t.is(detach({ argsz: 7 }), -Errno.EINVAL);
  t.is(detach({ flags: 2 }), -Errno.EINVAL);
  t.is(detach({ flags: 1, argsz: 8 }), -Errno.EINVAL);
  t.is(detach({}), 0);
  t.is(process.ioctl(device, VFIO_DEVICE_GET_INFO, VfioDeviceInfo.encode({ argsz: 24 })), 0);
});

test('a device without PASIDs has none, whatever the unit has', t => {
  const at = new IommufdBench(t, { devices: [gadget(ENGINE, { pasidBits: 0 }), gadget(SECOND, { pasidBits: 8 })] });
  const { user } = at;
  const [none, few] = [at.bind(0), at.bind(1)];
  const table = user.hwpt(none.id, user.ioas(), { flags: PASID });
  t.is(user.attach(none.fd, table, 1), -Errno.EINVAL);
  t.is(user.attach(few.fd, table, 0x100), -Errno.EINVAL);
  t.is(user.attach(few.fd, table, 0xff), 0);
});

test('3.6/6: a page request goes to the fault queue of what serves it when it comes, and not to what replaced that', t => {
  const at = new IommufdBench(t);
  const {
    user,
    bench: { driver, host },
  } = at;
  const { fd, id } = at.bind(0);
  const ioas = ioasOf(at);
  const { id: faultId, fd: faults } = user.faultQueue();
  const iopf = user.hwpt(id, ioas, { flags: PASID, faultId });
  const plain = user.hwpt(id, ioas, { flags: PASID });
  t.is(user.attach(fd, iopf, 4), 0);
  const request = { requesterId: ENGINE_ID, pasid: 4, hi: 0, lo: 0x9000, access: Access.READ, group: 1, last: true };
  driver.userOps.requestPage(request);
  t.is(user.attach(fd, plain, 4), 0, 'the driver drains what is queued');
  t.is((user.read(faults, 40) as Uint8Array).length, 0, 'it was the old table’s, and is answered');
  t.deepEqual(driver.userOps.responses, [{ request, code: PageResponse.INVALID_REQUEST }]);
  driver.userOps.requestPage({ ...request, group: 2 });
  host.function(ENGINE);
  t.is(user.detach(fd, 4), 0);
  t.is(driver.userOps.responses.length, 2, 'nobody waits for it');
  t.is(user.destroy(iopf), 0);
});
