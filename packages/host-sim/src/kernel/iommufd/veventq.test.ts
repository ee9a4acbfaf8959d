/** peers.md 3.6, 8: a queue of events: depth, gaps, what is lost, and how it is read. */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { smmuEvent, SmmuType } from '@remora/testing';
import { IOMMU_VEVENTQ_ALLOC, IommufdVeventHeader, IommuVeventFlag, IommuVeventqAlloc, viewOf } from '@remora/uapi';
import { nextSequence } from './veventq.js';
import { GuestSte, nested, smmuHost, viommuOf, vmOf } from './smmu-host.test.helper.js';

const EVENT_BYTES = 40;
const LOST_BYTES = 8;

function listening(t: ExecutionContext, depth: number) {
  const host = smmuHost(t, { queues: 1 });
  const { user, devices, driver } = host;
  const viommu = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
  t.true(user.vdevice(viommu, devices[0].id, 0x99) > 0);
  t.is(user.attach(devices[0].fd, nested(host, viommu, GuestSte.TRANSLATE)), 0);
  const queue = user.veventq(viommu, SmmuType.EVENT_SMMUV3, depth);
  if (typeof queue === 'number') throw new Error(`VEVENTQ_ALLOC: ${queue}`);
  let page = 0;
  const raise = (count: number): void => {
    for (let event = 0; event < count; event++) {
      driver.raise(smmuEvent({ type: 0x10, sid: devices[0].requesterId, address: ++page * 0x1000 }));
    }
  };
  /** What a read of so many bytes gives: sequence and page of each event; `lost` for a header without one. */
  const read = (bytes: number): (readonly [number, number | 'lost'])[] | number => {
    const got = user.read(queue.fd, bytes);
    if (typeof got === 'number') return got;
    const view = viewOf(got);
    const events: (readonly [number, number | 'lost'])[] = [];
    for (let at = 0; at < got.length;) {
      const lost = IommufdVeventHeader.fields.flags.get(view, at) === IommuVeventFlag.LOST_EVENTS;
      const sequence = IommufdVeventHeader.fields.sequence.get(view, at);
      events.push([sequence, lost ? 'lost' : view.getUint32(at + 24, true) / 0x1000]);
      at += lost ? LOST_BYTES : EVENT_BYTES;
    }
    return events;
  };
  return { host, user, viommu, queue, raise, read, driver, device: devices[0] };
}

test('3.6/8: VEVENTQ_ALLOC: depth 0 and beyond 2^19, type, flags, one of a type', t => {
  const host = smmuHost(t, { queues: 1 });
  const { user } = host;
  const viommu = viommuOf(t, host, SmmuType.VIOMMU_CMDQV);
  const type = SmmuType.EVENT_SMMUV3;
  t.is(user.veventq(viommu, type, 0), -Errno.EINVAL);
  t.is(user.veventq(viommu, type, 0x8_0001), -Errno.EINVAL);
  t.is(user.veventq(viommu, 0, 4), -Errno.EOPNOTSUPP);
  t.is(user.veventq(viommu, 77, 4), -Errno.EOPNOTSUPP);
  t.is(user.veventq(999, type, 4), -Errno.ENOENT);
  const values = { flags: 1, viommu_id: viommu, type, veventq_depth: 4 };
  t.is(user.call(IOMMU_VEVENTQ_ALLOC, IommuVeventqAlloc, values).result, -Errno.EOPNOTSUPP);
  const queue = user.veventq(viommu, type, 0x8_0000);
  t.true(typeof queue === 'object');
  t.is(user.veventq(viommu, type, 4), -Errno.EEXIST);
  t.true(typeof user.veventq(viommu, SmmuType.EVENT_CMDQV, 4) === 'object', 'of another type');
});

test('3.6/8: reads of 0, 7 and 8 bytes; an event is read whole', t => {
  const { user, queue, raise, read } = listening(t, 4);
  t.deepEqual(read(0), -Errno.EINVAL);
  t.deepEqual(read(7), -Errno.EINVAL);
  t.deepEqual(read(8), [], 'nothing is there');
  raise(3);
  t.deepEqual(read(8), -Errno.EINVAL, 'the event does not fit');
  t.deepEqual(read(EVENT_BYTES - 1), -Errno.EINVAL);
  t.deepEqual(read(EVENT_BYTES + 8), [[0, 1]], 'one does');
  t.deepEqual(read(400), [
    [1, 2],
    [2, 3],
  ]);
  t.deepEqual(read(400), []);
  const buffer = new Uint8Array(EVENT_BYTES);
  t.is(user.syscalls.write(queue.fd, buffer), -Errno.EINVAL, 'it is read only');
  t.is(user.syscalls.pread(queue.fd, buffer, 0), -Errno.ESPIPE);
  t.is(user.syscalls.pread(queue.fd, buffer, 8), -Errno.ESPIPE);
  t.is(user.syscalls.ioctl(queue.fd, IOMMU_VEVENTQ_ALLOC, buffer), -Errno.ENOTTY);
});

test('3.6/8: three events in a queue of two: the third is lost, and a header says so', t => {
  const { raise, read } = listening(t, 2);
  raise(3);
  t.deepEqual(read(400), [
    [0, 1],
    [1, 2],
    [2, 'lost'],
  ]);
  t.deepEqual(read(400), []);
  raise(1);
  t.deepEqual(read(400), [[3, 4]], 'after that everything is as before');
});

test('3.6/8: of several that are lost there is one header, with the newest number', t => {
  const { raise, read } = listening(t, 1);
  raise(5);
  t.deepEqual(read(EVENT_BYTES), [[0, 1]]);
  t.deepEqual(read(LOST_BYTES), [[4, 'lost']], 'a header fits where an event does not');
  t.deepEqual(read(LOST_BYTES), []);
});

test('3.6/8: an event after lost ones: the gap in the numbers says it, no header does', t => {
  const { raise, read } = listening(t, 2);
  raise(4);
  t.deepEqual(read(2 * EVENT_BYTES), [
    [0, 1],
    [1, 2],
  ]);
  raise(1);
  t.deepEqual(read(400), [[4, 5]]);
});

test('numbers stay below 2^31', t => {
  t.deepEqual([nextSequence(0), nextSequence(0x7fff_fffe), nextSequence(0x7fff_ffff)], [1, 0x7fff_ffff, 0]);
});

test('whoever waits for the descriptor is told of each event, and at once of one that is there', t => {
  const { user, queue, raise, read } = listening(t, 4);
  let calls = 0;
  raise(1);
  const waiting = user.syscalls.onReadable(queue.fd, () => calls++);
  t.is(calls, 1);
  raise(2);
  t.is(calls, 3);
  read(400);
  waiting[Symbol.dispose]();
  raise(1);
  t.is(calls, 3);
});

test('types do not mix: errors of hardware queues have a queue of their own', t => {
  const { user, viommu, read, driver, device } = listening(t, 4);
  const vm = vmOf(driver, device.requesterId);
  t.false(vm.reportQueueErrors(0b101), 'nobody asked for them');
  const queue = user.veventq(viommu, SmmuType.EVENT_CMDQV, 1);
  if (typeof queue === 'number') throw new Error(`VEVENTQ_ALLOC: ${queue}`);
  t.true(vm.reportQueueErrors(0b101));
  t.deepEqual(read(400), []);
  const got = user.read(queue.fd, 400);
  t.deepEqual(got, new Uint8Array(Uint32Array.from([0, 0, 0b101, 0, 0, 0]).buffer));
});

test('the descriptor outlives /dev/iommu and the device: the objects go with the last of them', t => {
  const { host, user, queue, raise, read, device } = listening(t, 4);
  raise(1);
  t.is(user.syscalls.close(device.fd), 0);
  t.is(user.syscalls.close(host.devices[1].fd), 0);
  t.is(user.close(), 0);
  t.deepEqual(read(400), [[0, 1]]);
  t.true(host.driver.domains.size > 0);
  t.is(user.syscalls.close(queue.fd), 0);
  t.is(host.driver.domains.size, 0);
});
