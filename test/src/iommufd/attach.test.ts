/** What serves a device, and its PASIDs, on a real unit: replaced at once, one combination with the other, and DMA that nothing serves (peers.md 3.6). */
import test, { type ExecutionContext } from 'ava';
import { Errno, NO_PASID } from '@remora/core';
import { owner } from '@remora/testing';
import { IommuHwptAllocFlag, VFIO_DEVICE_SET_IRQS } from '@remora/uapi';
import { EngineError } from '@hw/dma-engine';
import { RawHost } from './raw-host.js';

/** VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSI_IRQ_INDEX. */
const DATA_EVENTFD = 4;
const ACTION_TRIGGER = 32;
const MSI = 1;
const { NEST_PARENT, PASID } = IommuHwptAllocFlag;
/** A page of input that both a first stage and the guest's memory itself can have. */
const IN = 5;

function raw(t: ExecutionContext): RawHost {
  return owner(t)(new RawHost());
}

/** The guest page, of those that `pages` names, at which a write to page IN arrived. */
function target(at: RawHost, pages: readonly number[], pasid: number = NO_PASID): number | undefined {
  for (const page of pages) at.setGuest(page, 0);
  at.write(IN, 0x5a, pasid);
  return pages.find(page => at.guest(page) === 0x5a);
}

for (const pasid of [undefined, 9]) {
  const where = pasid === undefined ? 'requests without PASID' : 'a PASID';
  test(`3.6/6: ${where}: nested, another nested, the parent, back: each replaces the one before, which is free then`, t => {
    const at = raw(t);
    const { user, devices, ioas } = at;
    const [{ fd, id }] = devices;
    const before = at.dump();
    const [one, two] = [at.stage1(), at.stage1()];
    one.map(IN, 11);
    two.map(IN, 12);
    const parent = user.hwpt(id, ioas, { flags: NEST_PARENT | PASID });
    const nested = [at.nested(parent, one, PASID), at.nested(parent, two, PASID)] as const;
    const serves = (): number | undefined => target(at, [IN, 11, 12], pasid);
    t.is(user.attach(fd, nested[0], pasid), 0);
    t.is(serves(), 11);
    t.is(user.attach(fd, nested[0], pasid), 0, 'again');
    t.is(user.destroy(nested[0]), -Errno.EBUSY);
    t.is(user.attach(fd, nested[1], pasid), 0);
    t.is(serves(), 12, 'nothing of the first is remembered');
    t.is(user.destroy(nested[0]), 0);
    t.is(user.destroy(nested[1]), -Errno.EBUSY);
    t.is(user.attach(fd, parent, pasid), 0);
    t.is(serves(), IN);
    t.is(user.destroy(nested[1]), 0);
    t.is(user.destroy(parent), -Errno.EBUSY);
    if (pasid === undefined) {
      t.is(user.attach(fd, ioas), 0);
      t.is(serves(), IN);
      t.is(user.destroy(parent), 0);
    }
    t.is(user.attach(fd, 0x7777, pasid), -Errno.ENOENT);
    t.is(user.attach(fd, id, pasid), -Errno.EINVAL, 'a device serves nobody');
    t.is(serves(), IN, 'what was there is there still');
    t.is(user.detach(fd, pasid), 0);
    t.is(serves(), undefined);
    if (pasid !== undefined) t.is(user.destroy(parent), 0);
    t.deepEqual(at.dump(), before);
  });
}

test('3.6/12: tables for PASIDs and others: at a PASID, beside one, and where requests without PASID are not served at all', t => {
  const at = raw(t);
  const { user, devices, ioas } = at;
  const [{ fd, id }] = devices;
  const with1 = user.hwpt(id, ioas, { flags: PASID });
  const with2 = user.hwpt(id, user.ioas(), { flags: PASID });
  const plain = user.hwpt(id, ioas);
  t.is(user.attach(fd, plain, 7), -Errno.EINVAL, 'not made for PASIDs');
  t.is(user.attach(fd, ioas, 7), -Errno.EINVAL, 'nor are those of an address space');
  t.is(user.attach(fd, with1, 7), 0, 'requests without PASID need not be served');
  t.deepEqual([target(at, [IN], 7), target(at, [IN])], [IN, undefined]);
  t.is(user.attach(fd, plain), -Errno.EINVAL, 'not beside a PASID');
  t.is(user.attach(fd, ioas), -Errno.EINVAL);
  t.is(user.attach(fd, with1), 0);
  t.is(target(at, [IN]), IN);
  t.is(user.attach(fd, plain), -Errno.EINVAL, 'nor in its place');
  t.is(user.attach(fd, with2, 8), 0);
  t.deepEqual([target(at, [IN], 7), target(at, [IN], 8)], [IN, undefined], 'an empty address space');
  t.is(user.attach(fd, with2, 7), 0);
  t.is(target(at, [IN], 7), undefined);
  t.is(user.attach(fd, with1, 8), 0);
  t.is(target(at, [IN], 8), IN);
  t.is(user.detach(fd, 7), 0);
  t.is(user.detach(fd, 7), 0);
  t.is(target(at, [IN], 8), IN, 'each PASID by itself');
  t.is(user.detach(fd, 8), 0);
  t.is(user.attach(fd, plain), 0, 'the last PASID is gone');
  t.is(user.attach(fd, with1, 7), -Errno.EINVAL, 'what serves requests without PASID is not for that');
  t.is(user.attach(fd, with1, 0x10_0000), -Errno.EINVAL, 'PASIDs have 20 bits');
  t.is(user.attach(fd, plain, 0), -Errno.EBUSY, 'PASID 0 is none');
  t.is(target(at, [IN]), IN);
});

test('3.6/12: what is mapped where a device cannot have it keeps the device out', t => {
  const at = raw(t);
  const { user, devices } = at;
  const [{ fd, id }] = devices;
  const ioas = user.ioas();
  const { address } = user.memory(4096);
  t.is(user.map(ioas, 0xfee0_0000, address, 4096), 0);
  t.is(user.attach(fd, ioas), -Errno.EADDRINUSE);
  t.is(user.attach(fd, user.hwpt(id, ioas)), -Errno.EADDRINUSE);
  t.is(user.unmap(ioas, 0xfee0_0000, 4096), 0);
  t.is(user.attach(fd, ioas), 0);
  t.is(user.map(ioas, 0xfee0_0000, address, 4096), -Errno.EINVAL, 'messages go there');
  t.is(user.detach(fd), 0);
});

test('3.6/22: DMA to where nothing is mapped fails, the device lives, no message arrives, and the host has the fault', t => {
  const at = raw(t);
  const { user, devices, ioas, host } = at;
  const [{ fd }] = devices;
  t.false(at.write(IN, 1), 'before it is attached');
  t.is(user.attach(fd, ioas), 0);
  host.takeFaults();
  t.false(at.write(0x8_0000, 1));
  t.is(at.read(0x8_0000), undefined);
  t.deepEqual(
    host.takeFaults().map(({ requesterId, hi, lo, write }) => ({ requesterId, hi, lo, write })),
    [true, false].map(write => ({ requesterId: 0x3f00, hi: 0, lo: 0x8000_0000 | 0, write })),
  );
  at.setGuest(IN, 0x42);
  t.is(at.read(IN), 0x42, 'it goes on');
});

test('3.6/22: a command of a device that meets no memory says so, and its message does not come; the next one’s does', t => {
  const at = raw(t);
  const { user, devices, ioas, process } = at;
  const [{ fd }] = devices;
  t.is(user.attach(fd, ioas), 0);
  const eventfd = process.eventfd();
  const irqs = new Int32Array([24, DATA_EVENTFD | ACTION_TRIGGER, MSI, 0, 1, eventfd]);
  t.is(process.ioctl(fd, VFIO_DEVICE_SET_IRQS, new Uint8Array(irqs.buffer)), 0);
  /** The messages since the last time. */
  const messages = (): number => {
    const count = new Uint8Array(8);
    return process.read(eventfd, count) === 8 ? count[0]! : 0;
  };
  t.deepEqual([at.fill(0x8_0000, 0x33, NO_PASID), messages()], [EngineError.MEMORY, 0]);
  t.deepEqual([at.fill(IN, 0x33, NO_PASID, true), messages()], [EngineError.NONE, 1]);
  t.is(at.guest(IN), 0x33);
});

test('a device is either its group’s or its own; it is opened and bound by one at a time', t => {
  const at = raw(t);
  const { host, devices, process, user } = at;
  const other = host.process('other');
  t.is(other.open('/dev/vfio/1'), -Errno.EBUSY, 'the device is bound to an iommufd');
  const again = other.open('/dev/vfio/devices/vfio0');
  t.true(again > 0, 'opened, but not bound');
  t.is(other.ioctl(again, 0x3b6b), -Errno.EINVAL, 'it answers nothing');
  process.close(devices[0].fd);
  const group = other.open('/dev/vfio/1');
  t.true(group > 0);
  t.throws(() => user.bind('/dev/vfio/devices/vfio0'), { message: 'VFIO_DEVICE_BIND_IOMMUFD: -16' });
  other.close(group);
  t.notThrows(() => user.bind('/dev/vfio/devices/vfio0'));
});
