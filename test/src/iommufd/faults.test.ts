/** Faults of a lent device: what the host's unit finds in the guest's first stage, the guest reads in its own unit. */
import test from 'ava';
import { Access } from '@remora/core';
import { owner } from '@remora/testing';
import { Fsts, Reg } from '@hw/intel-iommu';
import { Reason, refused } from '../propagation/physical-fault.js';
import { LentEngine, type LentEngineOptions } from './lent-engine.js';

const PAGE = 4096;
const AT = 0x1_2345_6000;

/** Engines without device TLBs, on a kernel that reports faults. */
function lent(options: LentEngineOptions = {}): LentEngine {
  return new LentEngine({ asks: false, knobs: { vtdEvents: true }, ...options });
}

/** Of the ledger: the host’s reason, and the one that the guest was told. */
function told({ rig }: LentEngine): unknown[] {
  const faults = rig.machine.ledger.events.filter(({ kind }) => kind === 'host-fault-report');
  return faults.map(({ data }) => [data['reason'], data['told']]);
}

test('a page that is not there: the guest’s own fault, with its requester id and PASID', t => {
  const at = owner(t)(lent());
  const { rig, space } = at;
  t.is(space.deviceReads(AT, 4), undefined);
  t.not(rig.guest.registers.read32(Reg.FSTS) & Fsts.PPF, 0);
  const [fault, ...more] = rig.guest.iommu.handleFaults();
  t.like(fault, { reason: Reason.FIRST_STAGE_NOT_PRESENT, requesterId: rig.requesterId(), pasid: space.pasid });
  t.deepEqual(more, []);
  t.deepEqual(rig.host.platform.takeFaults(), [], 'it is the guest’s, not the host’s');
  const frame = space.page(AT);
  rig.guest.write(frame, Uint8Array.of(1, 2, 3));
  space.flushAll();
  t.deepEqual(space.deviceReads(AT, 3), Uint8Array.of(1, 2, 3), 'once it is there, the device reads it');
});

test('a page that must not be written', t => {
  const at = owner(t)(lent());
  at.space.page(AT, Access.READ);
  t.false(at.space.deviceWrites(AT, Uint8Array.of(1)).ok);
  t.like(at.rig.guest.iommu.handleFaults()[0], { reason: Reason.NO_WRITE_PERMISSION, pasid: at.space.pasid });
});

test('a page where the guest has no memory is the host’s matter: in its log, nothing in the guest’s unit', t => {
  const at = owner(t)(lent());
  const { rig, space } = at;
  space.map(AT, 0x8000);
  t.is(space.deviceReads(AT, 4), undefined);
  t.deepEqual(rig.guest.iommu.handleFaults(), []);
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.SECOND_STAGE_NOT_PRESENT, { pasid: space.pasid, frame: AT }),
  ]);
});

test('a PASID that the guest has unbound: its entry is not present, as its own tables say', t => {
  const at = owner(t)(lent());
  const { rig, space } = at;
  space.page(AT);
  t.not(space.deviceReads(AT, 4), undefined);
  space.unbind();
  t.is(space.deviceReads(AT, 4), undefined);
  const [fault, ...more] = rig.guest.iommu.handleFaults();
  t.like(fault, { reason: Reason.PASID_ENTRY_NOT_PRESENT, requesterId: rig.requesterId(), pasid: space.pasid });
  t.deepEqual(more, []);
  t.deepEqual(rig.host.platform.takeFaults(), []);
});

test('FPD of the guest’s PASID entry suppresses its fault', t => {
  const at = owner(t)(lent());
  const { rig, space } = at;
  rig.machine.ledger.on = true;
  rig.entry(space.pasid, { did: space.did, root: space.root, fpd: 1 });
  space.sync();
  t.is(space.deviceReads(AT, 4), undefined);
  t.deepEqual(rig.guest.iommu.handleFaults(), []);
  t.deepEqual(told(at), [[Reason.FIRST_STAGE_NOT_PRESENT, Reason.FIRST_STAGE_NOT_PRESENT]]);
});

test('overflow: the guest’s one record is the first fault; the ledger has both', t => {
  const at = owner(t)(lent());
  const { rig, space } = at;
  rig.machine.ledger.on = true;
  space.deviceReads(AT, 4);
  space.deviceReads(AT + 1, 4);
  t.is(rig.guest.registers.read32(Reg.FSTS) & (Fsts.PPF | Fsts.PFO), Fsts.PPF | Fsts.PFO);
  t.is(told(at).length, 2);
  const [fault, ...more] = rig.guest.iommu.handleFaults();
  t.like(fault, { lo: (AT % 0x10_0000) * PAGE });
  t.deepEqual(more, []);
});

test('Linux has no such events for VT-d: the fault stays in the host’s log', t => {
  const at = owner(t)(lent({ knobs: {} }));
  const { rig, space } = at;
  t.is(space.deviceReads(AT, 4), undefined);
  t.deepEqual(rig.guest.iommu.handleFaults(), []);
  t.deepEqual(rig.host.platform.takeFaults(), [
    refused(Reason.FIRST_STAGE_NOT_PRESENT, { pasid: space.pasid, frame: AT }),
  ]);
});
