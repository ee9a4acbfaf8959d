import test from 'ava';
import type { LedgerEvent } from '@remora/core';
import { crossingOf } from './crossings.js';

function event(kind: string, data: Record<string, unknown>): LedgerEvent {
  return { id: 1, cause: 0, source: 'vm0/intel-iommu', kind, data };
}

const where = { requesterId: 0x18, pasid: 5, hi: 1, lo: 0x7000 };

test('what comes up from a host, and what the guest is told of it', t => {
  const said = (kind: string, data: Record<string, unknown>) =>
    crossingOf(event(kind, { ...where, ...data }), 'vm0')?.text;
  t.is(
    said('host-page-request', { taken: true }),
    'page request for 0x100007000 PASID 5 of 00:03.0: queued for the guest',
  );
  t.is(said('host-page-request', { taken: false, pasid: -1 }), 'page request for 0x100007000 of 00:03.0: refused');
  t.is(
    said('host-fault-report', { reason: 0x76, told: 0x70 }),
    "fault 0x76 at 0x100007000 PASID 5 of 00:03.0: the guest's 0x70",
  );
  t.is(
    said('host-fault-report', { reason: 0x79, told: 0 }),
    "fault 0x79 at 0x100007000 PASID 5 of 00:03.0: the host's own",
  );
});

test('a decision names its PASID, if there is one', t => {
  const said = (data: Record<string, unknown>) => crossingOf(event('decision', { ...where, ...data }), 'vm0');
  t.deepEqual(said({ action: 'flush', result: 0 }), { boundary: 0, text: 'flush PASID 5 of 00:03.0' });
  t.deepEqual(said({ action: 'page response', pasid: -1, result: -5 }), {
    boundary: 0,
    text: 'page response of 00:03.0: EIO',
  });
});
