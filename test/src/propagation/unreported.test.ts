/**
 * Failures of the host that the architecture has no way to tell the guest, because no descriptor asked for the call: they are in the
 * ledger, what was in force stays, and the next sync tries again (decisions).
 */
import test from 'ava';
import { Errno } from '@remora/core';
import { owner } from '@remora/testing';
import { bind, BIND, PASID_REQUEST, pasidFree, unbind } from '../behaviours/host-bytes.js';
import { Rig } from '../rig/rig.js';
import { pattern, SharedSpace } from './shared-space.js';

const AT = 0x1_0000_0000;
/** Context-cache granularity. */
const GLOBAL = 1;

interface Cause {
  readonly title: string;
  /** Makes the vIOMMU unbind what is bound. */
  act(rig: Rig): void;
  /** A later occasion to try again. */
  again(rig: Rig): void;
}

const causes: readonly Cause[] = [
  {
    title: 'translation is turned off',
    act: rig => rig.guest.iommu.disableTranslation(),
    again: rig => rig.pasidCache(3, 0, 0),
  },
  {
    title: 'an empty root table is set',
    act: rig => rig.setRoot(rig.guest.page(), true),
    again: rig => rig.contextCache(GLOBAL),
  },
  {
    title: 'the machine is reset',
    act: rig => rig.machine.reset(),
    again: rig => rig.boot(),
  },
];

function failuresIn(rig: Rig): unknown[] {
  const events = rig.machine.ledger.events.filter(({ kind }) => kind === 'host-failure');
  return events.map(({ data }) => [data['action'], data['pasid'], data['errno']]);
}

for (const { title, act, again } of causes) {
  test(`the host refuses to unbind when ${title}: in the ledger, still in force, and tried again`, t => {
    const own = owner(t);
    const rig = own(new Rig());
    const [one, other] = [new SharedSpace(rig), new SharedSpace(rig)];
    for (const space of [one, other]) {
      space.page(AT);
      space.bind();
    }
    rig.machine.ledger.on = true;
    rig.plan.arm({ request: BIND, result: -Errno.EIO });
    rig.take();
    act(rig);
    t.deepEqual(rig.take().slice(0, 2), [unbind(one.pasid), unbind(other.pasid)]);
    t.deepEqual(failuresIn(rig), [['unbind', one.pasid, -Errno.EIO]]);
    t.deepEqual(rig.host.bound(), [one.pasid], 'the other one is gone all the same');
    const owned = rig.host.pasids();
    again(rig);
    // A reset took the PASIDs back, but for the one that was still bound.
    t.deepEqual(rig.take(), [unbind(one.pasid), ...(owned.length === 1 ? [pasidFree(one.pasid)] : [])]);
    t.deepEqual(rig.host.bound(), []);
    t.is(rig.host.pasids().length, owned.length === 1 ? 0 : 2);
  });
}

test('the host does not take a PASID back at a reset: tried again at the next sync, and not after that', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const pasid = rig.allocate();
  rig.plan.arm({ request: PASID_REQUEST, result: -Errno.EIO });
  rig.machine.reset();
  t.deepEqual(rig.take(), [pasidFree(pasid)]);
  t.deepEqual(rig.host.pasids(), [pasid]);
  rig.boot();
  t.deepEqual(rig.take(), [pasidFree(pasid)]);
  t.deepEqual(rig.host.pasids(), []);
  rig.pasidCache(3, 0, 0);
  rig.machine.reset();
  t.deepEqual(rig.take(), []);
});

test('the host refuses to bind when translation is turned on: the others are bound, and the next sync makes up for it', t => {
  const own = owner(t);
  const rig = own(new Rig());
  const { iommu } = rig.guest;
  const one = new SharedSpace(rig).bind();
  const other = new SharedSpace(rig, { engine: one.engine }).bind();
  for (const space of [one, other]) space.page(AT);
  iommu.disableTranslation();
  rig.machine.ledger.on = true;
  rig.plan.arm({ request: BIND, result: -Errno.ENOMEM });
  rig.take();
  iommu.enableTranslation();
  t.deepEqual(rig.take(), [bind(one.pasid, { root: one.root }), bind(other.pasid, { root: other.root })]);
  t.deepEqual(failuresIn(rig), [['bind', one.pasid, -Errno.ENOMEM]]);
  t.false(one.deviceWrites(AT, pattern(16)).ok);
  t.true(other.deviceWrites(AT, pattern(16)).ok);
  rig.contextCache(GLOBAL);
  t.deepEqual(rig.take(), [bind(one.pasid, { root: one.root })]);
  t.true(one.deviceWrites(AT, pattern(16)).ok);
});
