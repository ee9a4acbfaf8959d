/** What propagation tells people: failures and warnings, in the ledger, once and under their cause. */
import test from 'ava';
import { Errno, type LedgerEvent } from '@remora/core';
import { owner } from '@remora/testing';
import { Rig } from '../rig/rig.js';
import { OTHER_ROOT, ROOT } from './behaviour.js';
import { BIND, CACHE_INVALIDATE } from './host-bytes.js';

function kinds(rig: Rig, kind: string): readonly LedgerEvent[] {
  return rig.machine.ledger.events.filter(event => event.kind === kind);
}

test('plain DMA under a first-stage PASID 0 is warned of once per device', t => {
  const rig = owner(t)(new Rig());
  rig.machine.ledger.on = true;
  rig.entry(0, { did: 7, root: ROOT });
  rig.pasidCache(1, 7, 0);
  rig.entry(0, { did: 7, root: OTHER_ROOT });
  rig.pasidCache(1, 7, 0);
  const warnings = kinds(rig, 'warning');
  t.deepEqual(
    warnings.map(({ data }) => data),
    [{ what: 'pasid0-unbound', requesterId: rig.requesterId() }],
  );
  rig.machine.reset();
  t.is(kinds(rig, 'warning').length, 1);
});

test('a host failure is in the ledger, caused by the descriptor that it fails', t => {
  const rig = owner(t)(new Rig());
  rig.machine.ledger.on = true;
  const pasid = rig.bound(7, ROOT);
  rig.plan.arm({ request: CACHE_INVALIDATE, result: -Errno.EIO });
  rig.refused(rig.descriptor.pasidIotlb(2, 7, pasid));
  const [failure, ...more] = kinds(rig, 'host-failure');
  t.deepEqual(more, []);
  t.like(failure?.data, { action: 'flush', pasid, errno: -Errno.EIO });
  const cause = rig.machine.ledger.events.find(({ id }) => id === failure?.cause);
  t.is(cause?.kind, 'descriptor');
  t.is(kinds(rig, 'queue-error').length, 1);
});

test('outside the queue a failure stays in the ledger, and is made good by the next sync', t => {
  const rig = owner(t)(new Rig());
  const one = rig.bound(7, ROOT);
  const two = rig.bound(7, OTHER_ROOT);
  rig.machine.ledger.on = true;
  rig.plan.arm({ request: BIND, result: -Errno.EIO });
  rig.guest.iommu.disableTranslation();
  t.is(kinds(rig, 'host-failure').length, 1);
  const left = rig.host.bound();
  t.is(left.length, 1, 'the other one is unbound all the same');
  t.true([one, two].includes(left[0]!));
  rig.setRoot(rig.guest.page(), true);
  t.deepEqual(rig.host.bound(), []);
});

test('off, the ledger has nothing', t => {
  const rig = owner(t)(new Rig());
  rig.bound(7, ROOT);
  t.deepEqual(rig.machine.ledger.events, []);
});
