/**
 * Remora's extension of iommufd for VT-d (knob vtdEvents): an unrecoverable fault that a guest's own tables are the reason of reaches its VMM, with the
 * requester id that the guest knows; every other stays the host's. Without the knob the host is as Linux 7.3.4.
 */
import test, { type ExecutionContext } from 'ava';
import { Errno, NO_PASID } from '@remora/core';
import { REMORA_VTD_EVENTS } from '@remora/iommu';
import { owner } from '@remora/testing';
import { IommufdVeventHeader, IommuHwptAllocFlag, IommuVeventFlag, viewOf } from '@remora/uapi';
import { Fault, FaultRecord } from '@hw/intel-iommu';
import { RawHost } from './raw-host.js';

const { NEST_PARENT, PASID } = IommuHwptAllocFlag;
const AT = 0x1_2345;
const THERE = 10;
const VIRTUAL = 0x18;
const FIRST = 5;
const HEADER = IommufdVeventHeader.size;

interface Setup {
  readonly depth?: number;
  /** Whether the VM has the engine as a virtual device; default true. */
  readonly known?: boolean;
}

/** The engine's requests are a guest's, without PASID and with one; the VMM listens. */
function listening(t: ExecutionContext, { depth = 8, known = true }: Setup = {}) {
  const at = owner(t)(new RawHost());
  at.host.knobs.vtdEvents = true;
  const { user, devices, ioas } = at;
  const [device] = devices;
  const parent = user.hwpt(device.id, ioas, { flags: NEST_PARENT | PASID });
  const stage1 = at.stage1();
  const rid = at.nested(parent, stage1, PASID);
  const hwpt = at.nested(parent, stage1, PASID);
  t.is(user.attach(device.fd, rid), 0);
  t.is(user.attach(device.fd, hwpt, FIRST), 0);
  const viommu = user.viommu(device.id, parent, REMORA_VTD_EVENTS);
  t.true(viommu > 0);
  const vdevice = known ? user.vdevice(viommu, device.id, VIRTUAL) : 0;
  const queue = user.veventq(viommu, REMORA_VTD_EVENTS, depth);
  if (typeof queue === 'number') throw new Error(`VEVENTQ_ALLOC: ${queue}`);
  /** Sequence and decoded record of each event; `lost` for a header without one. */
  const events = () => {
    const bytes = user.read(queue.fd, 400);
    if (typeof bytes === 'number') throw new Error(`read: ${bytes}`);
    const found: { sequence: number; record: Record<string, unknown> | 'lost' }[] = [];
    for (let offset = 0; offset < bytes.length;) {
      const sequence = IommufdVeventHeader.fields.sequence.get(viewOf(bytes), offset);
      const lost = IommufdVeventHeader.fields.flags.get(viewOf(bytes), offset) === IommuVeventFlag.LOST_EVENTS;
      const end = offset + HEADER + (lost ? 0 : FaultRecord.bytes);
      const words = new Int32Array(bytes.slice(offset + HEADER, end).buffer);
      found.push({ sequence, record: lost ? 'lost' : FaultRecord.decode(words) });
      offset = end;
    }
    return found;
  };
  const faults = (): number[] => at.host.takeFaults().map(({ reason }) => reason);
  return { at, user, device, parent, stage1, rid, hwpt, viommu, vdevice, queue, events, faults };
}

test('a page that the guest’s table lacks: the record says so, with the guest’s requester id, and the host’s log has nothing', t => {
  const { at, stage1, events, faults } = listening(t);
  t.false(at.write(AT, 1, FIRST));
  t.false(at.write(AT + 1, 1));
  const [one, other, ...more] = events();
  t.deepEqual(more, []);
  t.like(one, { sequence: 0, record: { fi: AT, sid: VIRTUAL, fr: Fault.SFS_2, pp: 1, pv: FIRST, t1: 0, t2: 0, f: 1 } });
  t.like(other, { sequence: 1, record: { fi: AT + 1, sid: VIRTUAL, fr: Fault.SFS_2, pp: 0, f: 1 } });
  t.deepEqual(faults(), []);
  stage1.map(AT, THERE);
  t.true(at.write(AT, 0x5a, FIRST));
  t.is(at.guest(THERE), 0x5a);
  t.deepEqual([events(), faults()], [[], []]);
});

test('a read is a read', t => {
  const { at, events } = listening(t);
  t.is(at.read(AT, FIRST), undefined);
  t.like(events()[0], { record: { t1: 1, t2: 0 } });
});

test('what is not the guest’s doing stays in the host’s log: its second stage, what serves without one, other functions', t => {
  const { at, user, device, parent, stage1, events, faults } = listening(t);
  // A page of the guest's beyond its memory.
  stage1.map(AT, 0x8_0000);
  t.false(at.write(AT, 1, FIRST));
  t.deepEqual(faults(), [Fault.SSS_2]);
  t.false(at.write(AT, 1, NO_PASID, 1));
  t.is(faults().length, 1);
  t.is(user.attach(device.fd, parent, FIRST), 0);
  t.false(at.write(0x8_0000, 1, FIRST));
  t.deepEqual(faults(), [Fault.SSS_2]);
  t.deepEqual(events(), []);
});

test('where nothing is bound, the guest reads so; and where its tables name what no memory can be, that', t => {
  const { at, user, device, hwpt, stage1, events, faults } = listening(t);
  t.false(at.write(AT, 1, FIRST + 1));
  t.is(user.detach(device.fd, FIRST), 0);
  t.false(at.write(AT, 1, FIRST));
  // A guest-physical address of 50 bits.
  stage1.map(AT, 2 ** 37);
  t.is(user.attach(device.fd, hwpt, FIRST), 0);
  t.false(at.write(AT, 1, FIRST));
  t.like(events(), [
    { record: { sid: VIRTUAL, fr: Fault.SPT_2, pv: FIRST + 1 } },
    { record: { sid: VIRTUAL, fr: Fault.SPT_2, pv: FIRST } },
    { record: { sid: VIRTUAL, fr: Fault.SFS_3, pv: FIRST } },
  ]);
  t.deepEqual(faults(), []);
});

test('a function that the VM does not know, or not any more, is the host’s', t => {
  const { at, user, vdevice, viommu, device, events, faults } = listening(t);
  t.is(user.destroy(vdevice), 0);
  t.false(at.write(AT, 1, FIRST));
  t.deepEqual([events(), faults()], [[], [Fault.SFS_2]]);
  t.true(user.vdevice(viommu, device.id, 0x20) > 0);
  t.false(at.write(AT, 1, FIRST));
  t.like(events(), [{ record: { sid: 0x20 } }]);
  t.deepEqual(faults(), []);
  const unknown = listening(t, { known: false });
  t.false(unknown.at.write(AT, 1, FIRST));
  t.deepEqual([unknown.events(), unknown.faults()], [[], [Fault.SFS_2]]);
});

test('the requester id that a device has for its guest has 16 bits', t => {
  const { user, viommu, device } = listening(t, { known: false });
  t.is(user.vdevice(viommu, device.id, 0x1_0000), -Errno.EINVAL);
  t.is(user.vdevice(viommu, device.id, 0x1_0000_0000n), -Errno.EINVAL);
  t.true(user.vdevice(viommu, device.id, 0xffff) > 0);
});

test('nobody listens: the host’s', t => {
  const { at, user, queue, faults } = listening(t);
  t.is(user.syscalls.close(queue.fd), 0);
  t.false(at.write(AT, 1, FIRST));
  t.deepEqual(faults(), [Fault.SFS_2]);
  t.is(user.destroy(queue.id), 0);
  t.false(at.write(AT, 1, FIRST));
  t.deepEqual(faults(), [Fault.SFS_2]);
});

test('the ledger has the way of a fault: what was allocated, the event, and what was lost', t => {
  const { at, user, device, viommu, queue } = listening(t, { depth: 1, known: false });
  const { ledger } = at.hostLevel;
  ledger.on = true;
  const vdevice = user.vdevice(viommu, device.id, VIRTUAL);
  at.write(AT, 1, FIRST);
  at.write(AT, 1, FIRST);
  const noted = ledger.events.filter(({ kind }) => kind === 'kernel').map(({ data }) => data);
  t.deepEqual(noted, [
    { operation: 'vdevice-alloc', id: vdevice, viommu, device: device.id, virtual: String(VIRTUAL) },
    { operation: 'vevent', veventq: queue.id, type: REMORA_VTD_EVENTS, sequence: 0 },
    { operation: 'vevent-lost', veventq: queue.id, type: REMORA_VTD_EVENTS, sequence: 1 },
  ]);
});

test('more than the queue holds: the gap is told', t => {
  const { at, events, faults } = listening(t, { depth: 1 });
  for (let page = 0; page < 3; page++) t.false(at.write(AT + page, 1, FIRST));
  t.like(events(), [{ sequence: 0 }, { sequence: 2, record: 'lost' }]);
  t.deepEqual(faults(), []);
});

test('a page table of the VM’s nesting parent, of another VM’s none: whose fault it is', t => {
  const { at, user, device, events, faults } = listening(t);
  const other = user.hwpt(device.id, at.ioas, { flags: NEST_PARENT | PASID });
  const elsewhere = at.nested(other, at.stage1(), PASID);
  t.is(user.attach(device.fd, elsewhere, FIRST), 0);
  t.false(at.write(AT, 1, FIRST));
  t.deepEqual([events(), faults()], [[], [Fault.SFS_2]]);
});

test('nested page tables are the unit’s own over the parent; the vIOMMU makes none and takes no commands', t => {
  const { at, user, device, viommu, parent, hwpt } = listening(t);
  t.is(at.nested(viommu, at.stage1()), -Errno.EOPNOTSUPP);
  t.deepEqual(user.invalidate(viommu, 0, []), { result: -Errno.EOPNOTSUPP, processed: 0 });
  t.is(user.veventq(viommu, 1, 4), -Errno.EOPNOTSUPP);
  t.is(user.hardwareQueue(viommu, 1, 0, 0, 0x1000), -Errno.EOPNOTSUPP);
  t.is(user.destroy(parent), -Errno.EBUSY);
  t.is(user.detach(device.fd, FIRST), 0);
  t.is(user.destroy(hwpt), 0);
});

test('as Linux: without the knob there is no such thing, and faults are the host’s', t => {
  const at = owner(t)(new RawHost());
  const { user, devices, ioas } = at;
  const [device] = devices;
  const parent = user.hwpt(device.id, ioas, { flags: NEST_PARENT | PASID });
  for (const type of [REMORA_VTD_EVENTS, 1, 2, 77]) t.is(user.viommu(device.id, parent, type), -Errno.EOPNOTSUPP);
  const nested = at.nested(parent, at.stage1(), PASID);
  t.is(user.attach(device.fd, nested), 0);
  t.false(at.write(AT, 1));
  t.like(at.host.takeFaults(), [{ reason: Fault.SFS_2 }]);
});
