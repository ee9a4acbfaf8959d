/** Flushes on their way to hosts: in batches, in order, and with errors at the guest's own descriptors (decisions 43, 59). */
import test from 'ava';
import { Errno } from '@remora/core';
import {
  DescriptorType,
  Fsts,
  GlobalCommand,
  PasidCacheDescriptor,
  PasidDeviceTlbDescriptor,
  PasidIotlbDescriptor,
  QueueErrorRecord,
  Reg,
} from '../../spec/index.js';
import { DID, RID } from '../bench.test.helper.js';
import { flushOf, type Hosted, hosted, PASID, ScriptedContext } from './hosted-bench.test.helper.js';

const SLOT = 32;
const PAGE = 4096;
const wholePasid = (): Int32Array => PasidIotlbDescriptor.encode({ type: 6, g: 2, did: DID, pasid: PASID });
const pasidCache = (): Int32Array => PasidCacheDescriptor.encode({ type: 7, g: 1, did: DID, pasid: PASID });
const pages = (count: number, first = 1): Int32Array[] => Array.from({ length: count }, (_, i) => flushOf(first + i));
const addresses = ({ done }: ScriptedContext): number[] => done.map(([, address]) => address / PAGE);

/** Where the queue stands: the slot of the head, and whether IQE is set. */
function stand({ bench }: Hosted): [number, boolean] {
  return [bench.read32(Reg.IQH) / SLOT, (bench.read32(Reg.FSTS) & Fsts.IQE) !== 0];
}

function clearError({ bench }: Hosted): void {
  bench.write32(Reg.FSTS, Fsts.IQE);
}

test('what lies between two waits is one batch, in the guest’s order, done before the wait completes', t => {
  const at = hosted();
  const { host } = at;
  at.queue(flushOf(7), wholePasid(), flushOf(3), at.wait(), flushOf(9), at.wait());
  t.deepEqual(host.done, [
    [PASID, 7 * PAGE, 12],
    [PASID, -1, 64],
    [PASID, 3 * PAGE, 12],
    [PASID, 9 * PAGE, 12],
  ]);
  t.deepEqual(host.batches, [3, 1]);
  t.deepEqual(at.statuses(), [1, 1]);
});

test('a flush that no wait follows is done, too', t => {
  const at = hosted();
  at.queue(flushOf(7));
  t.deepEqual(addresses(at.host), [7]);
  at.queue(...pages(2));
  t.deepEqual(addresses(at.host), [7, 1, 2]);
});

const COUNT = 5;
for (let refused = 0; refused < COUNT; refused++) {
  test(`entry ${refused} of ${COUNT} is refused: the queue stops there, and goes on from there`, t => {
    const at = hosted();
    const { host, bench } = at;
    host.refuseAfter = refused;
    at.queue(at.wait(), ...pages(COUNT), at.wait());
    t.deepEqual(stand(at), [1 + refused, true]);
    t.is(QueueErrorRecord.fields.iqei.get(bench.unit.registers.words, Reg.IQERCD >>> 2), 0, 'no further information');
    t.deepEqual(at.statuses(), [1, 0], 'the wait before them is done, that after them is not');
    t.deepEqual(addresses(host), [1, 2, 3, 4, 5].slice(0, refused));
    t.deepEqual(at.logged('host-failure'), [{ action: 'flush', context: 'host', pasid: PASID, errno: -Errno.EIO }]);
    t.deepEqual(at.logged('queue-error'), [{ head: (1 + refused) * SLOT, error: 0 }]);
    t.deepEqual(
      at.logged('descriptor').map(({ ok }) => ok),
      [true, ...Array.from({ length: COUNT }, (_, index) => index !== refused)],
    );
    clearError(at);
    t.deepEqual(stand(at), [COUNT + 2, false]);
    t.deepEqual(addresses(host), [1, 2, 3, 4, 5], 'each was done once');
    t.deepEqual(at.statuses(), [1, 1]);
  });
}

test('a refused descriptor that the guest replaces is passed over', t => {
  const at = hosted();
  at.host.refuseAfter = 1;
  at.queue(...pages(3), at.wait());
  at.bench.recover();
  t.deepEqual(stand(at), [4, false]);
  t.deepEqual(addresses(at.host), [1, 3]);
  t.deepEqual(at.statuses(), [1]);
});

test('nothing overtakes a flush: an unbind behind it waits for it, and does not happen if it is refused', t => {
  const at = hosted();
  const { host, bench, entryOf } = at;
  bench.put64(entryOf(PASID), 0n);
  host.calls.length = 0;
  host.refuseAfter = 1;
  at.queue(...pages(2), pasidCache(), at.wait());
  t.deepEqual(host.calls, [`flush ${PASID}`, `refuse ${PASID}`]);
  t.deepEqual(stand(at), [1, true]);
  clearError(at);
  t.deepEqual(host.calls.slice(2), [`flush ${PASID}`, `unbind ${PASID}`]);
  t.deepEqual(at.statuses(), [1]);
});

test('a flush is done before a device TLB is flushed, and before a wait that has to wait', t => {
  const at = hosted();
  at.host.refuseAfter = 0;
  at.queue(
    flushOf(1),
    PasidDeviceTlbDescriptor.encode({ type: DescriptorType.PASID_DEVICE_TLB, sid: RID + 1, pasid: PASID }),
  );
  t.deepEqual(stand(at), [0, true]);
  clearError(at);
  t.deepEqual(addresses(at.host), [1]);
});

test('a bad descriptor behind flushes is an error after they are done, and none if one of them is refused', t => {
  const bad = flushOf(2);
  bad[2]! |= 0x80;
  const good = hosted();
  good.queue(flushOf(1), bad, flushOf(3));
  t.deepEqual(addresses(good.host), [1]);
  t.deepEqual(stand(good), [1, true]);
  t.is(good.bench.read32(Reg.IQERCD) & 0xf, 4, 'reserved field');
  const both = hosted();
  both.host.refuseAfter = 0;
  both.queue(flushOf(1), bad, flushOf(3));
  t.deepEqual(stand(both), [0, true]);
  t.is(both.bench.read32(Reg.IQERCD) & 0xf, 0);
  clearError(both);
  t.deepEqual(stand(both), [1, true]);
  t.is(both.bench.read32(Reg.IQERCD) & 0xf, 4);
});

test('the head goes back across the end of the queue', t => {
  const at = hosted();
  const slots = PAGE / SLOT;
  at.queue(...pages(slots - 2));
  at.host.refuseAfter = 1;
  at.queue(...pages(4, 1000), at.wait());
  t.deepEqual(stand(at), [slots - 1, true]);
  clearError(at);
  t.deepEqual(stand(at), [3, false]);
  t.deepEqual(addresses(at.host).slice(-4), [1000, 1001, 1002, 1003]);
});

test('a batch has an end', t => {
  const at = hosted();
  const { bench } = at;
  const base = bench.page(4);
  bench.write32(Reg.GCMD, bench.read32(Reg.GSTS) & 0x96ff_ffff & ~GlobalCommand.QIE);
  bench.write32(Reg.IQT, 0);
  bench.write64(Reg.IQA, base * PAGE + 0x802);
  bench.command(GlobalCommand.QIE);
  const { batches } = at.host;
  for (const [index, words] of pages(300).entries()) bench.put(base * PAGE + index * SLOT, words);
  bench.write32(Reg.IQT, 300 * SLOT);
  t.deepEqual(batches, [256, 44]);
  t.deepEqual(
    addresses(at.host),
    Array.from({ length: 300 }, (_, index) => 1 + index),
  );
});

test('several hosts: what one refuses is still done at the others, what comes after is done at none', t => {
  const at = hosted();
  const second = new ScriptedContext('second');
  at.lend((RID & 0xff) + 8, second);
  at.host.refuseAfter = 1;
  at.queue(...pages(3), at.wait());
  t.deepEqual(stand(at), [1, true]);
  t.deepEqual([addresses(at.host), addresses(second)], [[1], [1, 2]]);
  clearError(at);
  t.deepEqual(stand(at), [4, false]);
  t.deepEqual(
    [addresses(at.host), addresses(second)],
    [
      [1, 2, 3],
      [1, 2, 2, 3],
    ],
  );
  second.refuseAfter = 0;
  at.queue(...pages(2, 8), at.wait());
  t.deepEqual(stand(at), [4, true]);
  t.deepEqual(addresses(at.host).slice(3), [8], 'the first host was served before the second refused');
  t.deepEqual(at.statuses(), [1, 0]);
});

test('two functions of one context cost one flush', t => {
  const at = hosted();
  at.lend((RID & 0xff) + 8, at.host);
  at.queue(...pages(2));
  t.deepEqual(at.host.batches, [2]);
});

test('Q15: a refusal is logged, and everything else is done', t => {
  const at = hosted({ 'quirk-failures-invisible': true });
  at.host.refuseAfter = 1;
  at.host.refusals = 2;
  at.queue(...pages(5), at.wait());
  t.deepEqual(stand(at), [6, false]);
  t.deepEqual(at.statuses(), [1]);
  t.deepEqual(addresses(at.host), [1, 4, 5]);
  t.is(at.logged('host-failure').length, 2);
  t.deepEqual(at.logged('queue-error'), []);
});

test('a host without nesting refuses at the first entry', t => {
  const at = hosted();
  at.host.flags = 0;
  at.queue(...pages(2), at.wait());
  t.deepEqual(stand(at), [0, true]);
  t.is(at.logged('host-failure')[0]!['errno'], -Errno.ENOENT);
});

test('a host that refuses, and says that all is done, has refused the last entry', t => {
  const at = hosted();
  at.host.flushStage1Caches = batch => {
    batch.accepted = batch.length;
    return -Errno.EIO;
  };
  at.queue(...pages(3), at.wait());
  t.deepEqual(stand(at), [2, true]);
  t.deepEqual(at.statuses(), [0]);
});

test('what the guest queues while its flushes are being done is done after them', t => {
  const at = hosted();
  const flush = at.host.flushStage1Caches.bind(at.host);
  let queued = 0;
  at.host.flushStage1Caches = batch => {
    if (queued++ === 0) at.queue(flushOf(9), at.wait());
    return flush(batch);
  };
  at.queue(...pages(2));
  t.deepEqual(addresses(at.host), [1, 2, 9]);
  t.deepEqual(at.statuses(), [1]);
  t.deepEqual(stand(at), [4, false]);
});

test('a bad tail that the guest writes meanwhile is an error after they are done', t => {
  const at = hosted();
  const flush = at.host.flushStage1Caches.bind(at.host);
  at.host.flushStage1Caches = batch => {
    at.bench.write32(Reg.IQT, 0x10);
    return flush(batch);
  };
  at.queue(...pages(2));
  t.deepEqual(addresses(at.host), [1, 2]);
  t.deepEqual(stand(at), [2, true]);
  t.is(at.bench.read32(Reg.IQERCD) & 0xf, 6, 'misaligned tail');
});
