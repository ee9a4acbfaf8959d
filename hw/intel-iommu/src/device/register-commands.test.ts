/** Register-based invalidation (vtd.md 1.6, 1.7). */
import test from 'ava';
import { ContextCommand, InvalidateAddress, IotlbCommand, Reg } from '../spec/index.js';
import { bigOf } from '@remora/bits';
import { type Bench, DID, legacyBench, RID, scalableBench, type Values } from './bench.test.helper.js';

const IVA = 0xf0;
const IOTLB = 0xf8;
const IOVA = 0x5000n;

const quad = (words: Int32Array): bigint => bigOf(words[1]!, words[0]!);

/** Gives a context command; returns CAIG, or -1 while it is still busy. */
function contextCommand(bench: Bench, values: Values): number {
  bench.write64(Reg.CCMD, quad(ContextCommand.encode({ icc: 1, ...values })));
  const read = bench.read64(Reg.CCMD);
  return read >> 63n === 1n ? -1 : Number((read >> 59n) & 3n);
}

/** Gives an IOTLB command; returns IAIG, or -1 while it is still busy. */
function iotlbCommand(bench: Bench, values: Values, address: Values = {}): number {
  bench.write64(IVA, quad(InvalidateAddress.encode(address)));
  bench.write64(IOTLB, quad(IotlbCommand.encode({ ivt: 1, ...values })));
  const read = bench.read64(IOTLB);
  return read >> 63n === 1n ? -1 : Number((read >> 57n) & 3n);
}

/** A unit whose context entry (pass-through) and one translation went stale. */
function staleContext(options: object = {}): Bench {
  const { bench, context } = legacyBench(options, { tt: 2 });
  bench.request(IOVA);
  bench.put64(context, 0n);
  return bench;
}

function stalePage(options: object = {}): Bench {
  const { bench, second } = legacyBench(options);
  bench.mapAt(second, 4, IOVA, 0x9003n, 3n);
  bench.request(IOVA);
  bench.mapAt(second, 4, IOVA, 0n, 3n);
  return bench;
}

test('CCMD: performed as asked, and what it says it did', t => {
  const after = (values: Values): [number, boolean] => {
    const bench = staleContext();
    t.is(bench.fault(IOVA), 0);
    return [contextCommand(bench, values), bench.fault(IOVA) === 0];
  };
  t.deepEqual(after({ cirg: 1 }), [1, false]);
  t.deepEqual(after({ cirg: 2, did: DID }), [2, false]);
  t.deepEqual(after({ cirg: 2, did: DID + 1 }), [2, true]);
  t.deepEqual(after({ cirg: 3, did: DID, sid: RID }), [3, false]);
  t.deepEqual(after({ cirg: 3, did: DID, sid: RID ^ 1 }), [3, true]);
  t.deepEqual(after({ cirg: 3, did: DID, sid: RID ^ 1, fm: 3 }), [3, false]);
  t.deepEqual(after({ cirg: 0 }), [0, true]);
});

test('CCMD as two dwords acts on the high one', t => {
  const bench = staleContext();
  bench.write32(Reg.CCMD, DID);
  t.is(bench.fault(IOVA), 0);
  bench.write32(Reg.CCMD + 4, 0x8000_0000 | (2 << 29));
  t.is(bench.fault(IOVA), 2);
  t.is(bench.read32(Reg.CCMD), DID, 'DID reads back');
});

test('IOTLB: performed as asked, and what it says it did', t => {
  const after = (values: Values, address: Values = {}): [number, boolean] => {
    const bench = stalePage();
    t.is(bench.fault(IOVA), 0);
    return [iotlbCommand(bench, values, address), bench.fault(IOVA) === 0];
  };
  t.deepEqual(after({ iirg: 1 }), [1, false]);
  t.deepEqual(after({ iirg: 2, did: DID }), [2, false]);
  t.deepEqual(after({ iirg: 2, did: DID + 1 }), [2, true]);
  t.deepEqual(after({ iirg: 3, did: DID }, { addr: 5 }), [3, false]);
  t.deepEqual(after({ iirg: 3, did: DID }, { addr: 6 }), [3, true]);
  t.deepEqual(after({ iirg: 3, did: DID }, { addr: 6, am: 2 }), [3, false]);
  t.deepEqual(after({ iirg: 3, did: DID }, { addr: 5, am: 19 }), [0, true], 'beyond MAMV');
  t.deepEqual(after({ iirg: 0 }), [0, true]);
});

test('beside the queue, or outside legacy mode, a command ends without being performed', t => {
  const bench = stalePage();
  bench.enableQueue(false);
  t.is(iotlbCommand(bench, { iirg: 1 }), 0);
  t.is(contextCommand(bench, { cirg: 1 }), 0);
  t.is(bench.fault(IOVA), 0);
  const scalable = scalableBench().bench;
  t.is(iotlbCommand(scalable, { iirg: 1 }), 0);
  t.is(contextCommand(scalable, { cirg: 1 }), 0);
});

test('compat=qemu-10.2: beside the queue commands stay busy; domain means global', t => {
  const bench = stalePage({ compat: 'qemu-10.2' });
  t.is(contextCommand(bench, { cirg: 2, did: 1 }), 1);
  bench.enableQueue(false);
  t.is(iotlbCommand(bench, { iirg: 1 }), -1);
  t.is(contextCommand(bench, { cirg: 1 }), -1);
});
