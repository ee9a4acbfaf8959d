import { Errno } from '@remora/core';
import test from 'ava';
import { Fsts, Granularity, PasidCacheGranularity, QueueError, Reg } from '../spec/index.js';
import { contextCacheDescriptor, iotlbDescriptor, pasidCacheDescriptor } from './descriptors.js';
import { Rig } from './rig.test.helper.js';
import { VtdDriver } from './vtd-driver.js';

const DRAIN = { reads: false, writes: false };

function started(rig: Rig, queueOrder?: number): VtdDriver {
  const options = queueOrder === undefined ? {} : { queueOrder };
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable', ...options });
  driver.start();
  return driver;
}

/** Granularity 2 of a PASID-cache invalidation does not exist. */
const BAD = pasidCacheDescriptor(2, 1, 1);

test('a batch is one tail write: its descriptors, then one wait', t => {
  const rig = new Rig({ nesting: true });
  const driver = started(rig);
  rig.takeOperations();
  const batch = [contextCacheDescriptor(Granularity.GLOBAL), iotlbDescriptor(Granularity.DOMAIN, 3, DRAIN)];
  t.is(driver.invalidate(...batch), 0);
  t.is(driver.wait({ fence: true }), 0);
  t.is(driver.wait(), 0);
  t.deepEqual(rig.takeOperations(), [
    'IQT context-cache g=1, iotlb g=2 did=3, wait sw=1',
    'IQT wait fn=1, wait sw=1',
    'IQT wait sw=1',
  ]);
  t.is(driver.queue.head, driver.queue.tail);
});

for (const compat of ['spec', 'qemu-10.2'] as const) {
  test(`a refused descriptor is reported with its index, the rest of the batch is done, the queue goes on (${compat})`, t => {
    const done: string[] = [];
    const rig = new Rig(
      { 'x-scalable-mode': 'on', compat },
      {
        iotlbInvalidate: (_granularity, domain) => {
          done.push(`iotlb ${domain}`);
          return 0;
        },
      },
    );
    const driver = started(rig);
    t.is(driver.invalidate(iotlbDescriptor(2, 1, DRAIN)), 0);
    t.is(driver.invalidate(iotlbDescriptor(2, 2, DRAIN), BAD, iotlbDescriptor(2, 3, DRAIN)), -Errno.EINVAL);
    const { index, code, descriptor } = driver.queue.failure!;
    t.is(index, 3);
    t.is(code, compat === 'spec' ? QueueError.RESERVED_FIELD : QueueError.NONE);
    t.deepEqual(descriptor, BAD);
    t.deepEqual(done, ['iotlb 1', 'iotlb 2', 'iotlb 3']);
    t.is(rig.registers.read32(Reg.FSTS) & Fsts.IQE, 0);
    t.is(driver.iotlbInvalidate(Granularity.DOMAIN, 4), 0);
    t.is(done.at(-1), 'iotlb 4');
    t.is(driver.queue.head, driver.queue.tail);
  });
}

test('a failure beyond the unit fails its descriptor just so', t => {
  let fails = true;
  const rig = new Rig({ nesting: true }, { pasidCacheInvalidate: () => (fails ? -Errno.EIO : 0) });
  const driver = started(rig);
  t.is(driver.pasidCacheInvalidate(PasidCacheGranularity.PASID, 1, 5), -Errno.EINVAL);
  t.is(driver.queue.failure?.index, 0);
  fails = false;
  t.is(driver.pasidCacheInvalidate(PasidCacheGranularity.PASID, 1, 5), 0);
});

test('without repair the queue stays stopped at the descriptor until recover()', t => {
  const rig = new Rig({ nesting: true });
  const driver = started(rig);
  driver.queue.recovers = false;
  t.is(driver.invalidate(BAD, contextCacheDescriptor(Granularity.GLOBAL)), -Errno.EINVAL);
  t.is(driver.queue.head, 0);
  t.is(rig.registers.read32(Reg.FSTS) & Fsts.IQE, Fsts.IQE);
  // Nothing behind it is done, and that is not this batch's mistake.
  t.is(driver.invalidate(contextCacheDescriptor(Granularity.GLOBAL)), -Errno.EIO);
  t.is(driver.queue.head, 0);
  t.true(driver.queue.recover());
  t.is(driver.queue.head, driver.queue.tail);
  t.false(driver.queue.recover());
  t.is(driver.invalidate(contextCacheDescriptor(Granularity.GLOBAL)), 0);
});

test('the queue wraps, batches across its end too, and an index is that of the slot', t => {
  const rig = new Rig({ nesting: true });
  // 4 KiB of 32-byte descriptors.
  const driver = started(rig, 0);
  t.is(driver.queue.entries, 128);
  for (let i = 0; i < 127; i++) t.is(driver.contextCacheInvalidate(Granularity.GLOBAL), 0);
  t.is(driver.queue.tail, 126);
  t.is(
    driver.invalidate(contextCacheDescriptor(1), contextCacheDescriptor(1), contextCacheDescriptor(1), BAD),
    -Errno.EINVAL,
  );
  t.is(driver.queue.failure?.index, 1);
  t.is(driver.queue.tail, 3);
  t.is(driver.queue.head, 3);
  // The status word of a slot that a wait had before says nothing about this one.
  t.is(driver.invalidate(contextCacheDescriptor(1)), 0);
  driver.queue.recovers = false;
  t.is(driver.invalidate(contextCacheDescriptor(1), BAD), -Errno.EINVAL);
  t.is(driver.queue.failure?.index, 6);
  t.throws(() => driver.invalidate(...Array.from({ length: 127 }, () => contextCacheDescriptor(1))), {
    instanceOf: RangeError,
  });
});

test('posted descriptors are done without a wait', t => {
  let flushes = 0;
  const rig = new Rig({ nesting: true }, { iotlbInvalidate: () => (flushes++, 0) });
  const driver = started(rig);
  rig.takeOperations();
  driver.queue.post(iotlbDescriptor(Granularity.DOMAIN, 1, DRAIN), iotlbDescriptor(Granularity.DOMAIN, 2, DRAIN));
  t.is(flushes, 2);
  t.deepEqual(rig.takeOperations(), ['IQT iotlb g=2 did=1, iotlb g=2 did=2']);
});
