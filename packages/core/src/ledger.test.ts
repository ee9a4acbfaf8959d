import test from 'ava';
import { Ledger } from './ledger.js';

test('the innermost open event is the cause', t => {
  const ledger = new Ledger();
  const write = ledger.open('vm0/intel-iommu', 'mmio-write', { offset: 0x88 });
  const descriptor = ledger.open('vm0/intel-iommu', 'descriptor', { index: 0 });
  const call = ledger.add('vm0/host-syscalls', 'ioctl', { number: 1 });
  ledger.close(descriptor, { result: 0 });
  const wait = ledger.add('vm0/intel-iommu', 'descriptor', { index: 1 });
  ledger.close(write);
  const other = ledger.add('vm0/intel-iommu', 'mmio-write', {});
  t.deepEqual(
    ledger.events.map(({ id, cause }) => [id, cause]),
    [
      [write, 0],
      [descriptor, write],
      [call, descriptor],
      [wait, write],
      [other, 0],
    ],
  );
  t.deepEqual(
    ledger.causedBy(write).map(({ id }) => id),
    [descriptor, call, wait],
  );
  t.deepEqual(
    ledger.causedBy(descriptor).map(({ id }) => id),
    [call],
  );
});

test('closing merges the result, and closes what was left open inside', t => {
  const ledger = new Ledger();
  const outer = ledger.open('a', 'one', { x: 1 });
  ledger.open('a', 'two', {});
  ledger.close(outer, { y: 2 });
  t.deepEqual(ledger.events[0]?.data, { x: 1, y: 2 });
  const after = ledger.add('a', 'three', {});
  t.is(ledger.events.find(({ id }) => id === after)?.cause, 0);
});

test('a cleared ledger goes on counting', t => {
  const ledger = new Ledger();
  const first = ledger.add('a', 'one', {});
  ledger.clear();
  t.deepEqual(ledger.events, []);
  t.true(ledger.add('a', 'two', {}) > first);
});

test('what is done later on behalf of an earlier event is caused by it', t => {
  const ledger = new Ledger();
  t.is(ledger.cause, 0);
  const write = ledger.open('vm0', 'mmio-write', {});
  const descriptor = ledger.open('vm0', 'descriptor', { ok: true });
  t.is(ledger.cause, descriptor);
  ledger.close(descriptor);
  t.is(ledger.cause, write);
  ledger.reopen(descriptor);
  const call = ledger.add('vm0', 'ioctl', {});
  ledger.close(descriptor, { ok: false });
  const after = ledger.add('vm0', 'ioctl', {});
  const causes = new Map(ledger.events.map(({ id, cause }) => [id, cause]));
  t.deepEqual([causes.get(call), causes.get(after)], [descriptor, write]);
  t.like(ledger.events[1], { id: descriptor, data: { ok: false } });
});
