/** Page tables of user space on a real unit (peers.md 3.6): who needs whom, what is refused, what serves a device, and what DMA then meets. */
import test, { type ExecutionContext } from 'ava';
import { Errno, NO_PASID } from '@remora/core';
import { owner } from '@remora/testing';
import { IommuHwptAllocFlag, IommuHwptDataType } from '@remora/uapi';
import { RawHost } from './raw-host.js';

const { NEST_PARENT, PASID, FAULT_ID_VALID, DIRTY_TRACKING } = IommuHwptAllocFlag;
/** The engines' own pages of input. */
const IN = 0x5_0000;

function raw(t: ExecutionContext, ...options: ConstructorParameters<typeof RawHost>): RawHost {
  return owner(t)(new RawHost(...options));
}

test('3.6/2: each object stays while another needs it, and goes when that is gone', t => {
  const at = raw(t);
  const { user, devices, ioas } = at;
  const before = at.dump();
  const stage1 = at.stage1();
  stage1.map(IN, 3);
  const parent = user.hwpt(devices[0].id, ioas, { flags: NEST_PARENT | PASID });
  const nested = at.nested(parent, stage1, PASID);
  t.true(parent > 0 && nested > parent);
  t.is(user.destroy(ioas), -Errno.EBUSY, 'the parent shows it');
  t.is(user.destroy(parent), -Errno.EBUSY, 'something is nested over it');
  t.is(user.attach(devices[0].fd, nested, 5), 0);
  t.is(user.destroy(nested), -Errno.EBUSY, 'a PASID is served by it');
  t.true(at.write(IN, 0x11, 5));
  t.is(at.guest(3), 0x11);
  t.is(user.destroy(devices[0].id), -Errno.EBUSY, 'the device is bound');

  t.is(user.detach(devices[0].fd, 5), 0);
  t.false(at.write(IN, 0x22, 5), 'blocked');
  t.is(at.guest(3), 0x11);
  t.is(user.destroy(nested), 0);
  t.is(user.destroy(nested), -Errno.ENOENT);
  t.is(user.destroy(parent), 0);
  t.deepEqual(at.dump(), before);
  t.is(user.destroy(ioas), 0);
});

test('3.6/2: a table that a device got with its address space goes with the last device', t => {
  const at = raw(t);
  const { user, devices, ioas } = at;
  const before = at.dump();
  t.is(user.attach(devices[0].fd, ioas), 0);
  t.is(user.attach(devices[1].fd, ioas), 0);
  t.true(at.write(7, 1) && at.write(8, 2, NO_PASID, 1));
  t.deepEqual([at.guest(7), at.guest(8)], [1, 2]);
  t.is(user.destroy(ioas), -Errno.EBUSY);
  t.is(user.detach(devices[0].fd), 0);
  t.is(user.detach(devices[0].fd), 0, 'nothing is left to be detached');
  t.is(user.destroy(ioas), -Errno.EBUSY, 'the other one has it still');
  t.false(at.write(7, 3));
  t.true(at.write(8, 4, NO_PASID, 1));
  t.is(user.detach(devices[1].fd), 0);
  t.deepEqual(at.dump(), before);
});

test('3.6/2: closing: device first or iommufd first, nothing is left and the device is reset', t => {
  for (const iommufdFirst of [false, true]) {
    const at = raw(t);
    const { user, devices, ioas, process } = at;
    t.is(user.attach(devices[0].fd, ioas), 0);
    t.true(at.write(7, 1));
    if (iommufdFirst) user.close();
    t.true(at.write(7, 2), 'the device keeps what it is attached to');
    process.close(devices[0].fd);
    t.false(at.write(7, 3), 'it masters nothing any more');
    t.is(at.guest(7), 2);
    process.close(devices[1].fd);
    user.close();
    const { iommu, frames } = at.host.dump() as { iommu: { functions: unknown[]; user?: unknown }; frames: number };
    t.is(iommu.user, undefined);
    t.true(frames > 0);
  }
});

test('3.6/3: a nested table is refused for each reason, and nothing is left of it', t => {
  const at = raw(t);
  const { user, devices, ioas } = at;
  const { id } = devices[0];
  const stage1 = at.stage1();
  const parent = user.hwpt(id, ioas, { flags: NEST_PARENT });
  const plain = user.hwpt(id, ioas);
  t.is(user.attach(devices[0].fd, ioas), 0);
  const before = at.dump();
  const good = stage1.data();
  const dataType = IommuHwptDataType.VTD_S1;
  const ask = (on: number, asked: Parameters<typeof user.hwpt>[2]): number => user.hwpt(id, on, asked);
  t.is(user.hwpt(0x7777, parent, { data: good, dataType }), -Errno.ENOENT, 'no such device');
  t.is(ask(0x7777, { data: good, dataType }), -Errno.EINVAL, 'nothing to nest over');
  t.is(ask(plain, { data: good, dataType }), -Errno.EINVAL, 'over one that is no parent');
  t.is(ask(ioas, { data: good, dataType }), -Errno.EOPNOTSUPP, 'over an address space');
  t.is(ask(id, { data: good, dataType }), -Errno.EINVAL, 'over a device');
  t.is(ask(parent, { data: good, dataType, flags: NEST_PARENT }), -Errno.EOPNOTSUPP);
  t.is(ask(parent, { data: good, dataType, flags: DIRTY_TRACKING }), -Errno.EOPNOTSUPP);
  t.is(ask(parent, { data: good, dataType: 0x8000_0000 }), -Errno.EOPNOTSUPP);
  t.is(ask(parent, { data: good, dataType: IommuHwptDataType.ARM_SMMUV3 }), -Errno.EOPNOTSUPP);
  t.is(ask(parent, { data: good }), -Errno.EINVAL, 'data of no type');
  t.is(ask(parent, { dataType }), -Errno.EINVAL, 'a type without data');
  t.is(ask(parent, {}), -Errno.EOPNOTSUPP, 'neither');
  t.is(ask(parent, { data: good.subarray(0, 23), dataType }), -Errno.EINVAL, 'too short');
  t.is(ask(parent, { data: Uint8Array.of(...good, 0), dataType }), -Errno.EINVAL, 'longer than the kernel knows');
  t.is(ask(parent, { data: good, dataType, flags: FAULT_ID_VALID, faultId: 0x7777 }), -Errno.ENOENT);
  const nested = ask(parent, { data: good, dataType });
  t.true(nested > 0);
  t.is(ask(nested, { data: good, dataType }), -Errno.EINVAL, 'over a nested one');
  t.is(user.destroy(nested), 0);
  t.is(ask(ioas, { flags: NEST_PARENT | FAULT_ID_VALID }), -Errno.EOPNOTSUPP);
  t.is(ask(ioas, { flags: 0x10 }), -Errno.EOPNOTSUPP);
  t.is(ask(ioas, { flags: DIRTY_TRACKING }), -Errno.EOPNOTSUPP, 'a unit without accessed and dirty bits');
  t.deepEqual(at.dump(), before);
});

test('3.6/3: what a guest’s table is like is judged when a device is to be served by it; what served the device does so still', t => {
  const at = raw(t);
  const { user, devices, ioas } = at;
  const [{ fd, id }] = devices;
  const stage1 = at.stage1();
  stage1.map(IN, 9);
  const parent = user.hwpt(id, ioas, { flags: NEST_PARENT });
  const nested = (more: Parameters<typeof stage1.data>[0]): number =>
    user.hwpt(id, parent, { data: stage1.data(more), dataType: IommuHwptDataType.VTD_S1 });
  t.is(user.attach(fd, parent), 0);
  for (const refused of [{ addr_width: 39 }, { addr_width: 57 }, { flags: 2 }, { flags: 7 }]) {
    const hwpt = nested(refused);
    t.true(hwpt > 0, 'allocated');
    t.is(user.attach(fd, hwpt), -Errno.EINVAL, JSON.stringify(refused));
    t.true(at.write(9, 0x21));
    t.is(at.guest(9), 0x21);
    t.is(user.destroy(hwpt), 0);
  }
  for (const passedOver of [{ flags: 8 }, { pgtbl_addr: stage1.table.rootFrame * 4096 + 0x123 }]) {
    const hwpt = nested(passedOver);
    t.is(user.attach(fd, hwpt), 0, JSON.stringify(passedOver));
    t.true(at.write(IN, 0x22));
    t.is(at.guest(9), 0x22);
    t.is(user.attach(fd, parent), 0);
    t.is(user.destroy(hwpt), 0);
  }
});

test('3.6/3: two nested tables share a parent, and each device and PASID has its own', t => {
  const at = raw(t);
  const { user, devices, ioas } = at;
  const parent = user.hwpt(devices[0].id, ioas, { flags: NEST_PARENT });
  const [one, two] = [at.stage1(), at.stage1()];
  one.map(IN, 10);
  two.map(IN, 11);
  const [first, second] = [at.nested(parent, one, PASID), at.nested(parent, two, PASID)];
  t.is(user.attach(devices[0].fd, first, 1), 0);
  t.is(user.attach(devices[0].fd, second, 2), 0);
  t.is(user.attach(devices[1].fd, second, 1), 0);
  t.true(at.write(IN, 0xa1, 1) && at.write(IN, 0xb2, 2));
  t.deepEqual([at.guest(10), at.guest(11)], [0xa1, 0xb2]);
  t.true(at.write(IN, 0xc3, 1, 1));
  t.deepEqual([at.guest(10), at.guest(11)], [0xa1, 0xc3], 'the same PASID of another device');
  t.false(at.write(IN, 0, NO_PASID), 'requests without PASID are blocked');
  // What the parent loses is lost for both.
  t.is(user.unmap(ioas, 0, 2n ** 64n - 1n), 0);
  t.false(at.write(IN, 0, 1) || at.write(IN, 0, 2) || at.write(IN, 0, 1, 1));
});
