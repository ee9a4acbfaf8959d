/** vtd.md 1.4: GCMD and GSTS, rule by rule. */
import { Access } from '@remora/core';
import test from 'ava';
import { Bench, FULL, legacyBench, scalableBench } from '../bench.test.helper.js';
import { InterruptBench, PLAIN } from '../interrupt-bench.test.helper.js';

const GCMD = 0x18;
const GSTS = 0x1c;
const IQH = 0x80;
const IQT = 0x88;
const IQA = 0x90;
const TE = 0x8000_0000;
const SRTP = 0x4000_0000;
const WBF = 0x0800_0000;
const QIE = 0x0400_0000;
const IRE = 0x0200_0000;
const SIRTP = 0x0100_0000;
const CFI = 0x0080_0000;
/** A fence and nothing else. */
const WAIT = 0x45n;

test('1.4 rule 1: composing the next command as GSTS AND 0x96FFFFFF keeps every level bit and starts nothing', t => {
  const bench = new Bench({ intremap: true });
  bench.write32(GCMD, TE | SRTP | QIE | IRE | SIRTP | CFI);
  t.is(bench.read32(GSTS), (TE | SRTP | QIE | IRE | SIRTP | CFI) >>> 0);
  const composed = (bench.read32(GSTS) & 0x96ff_ffff) >>> 0;
  t.is(composed, (TE | QIE | IRE | CFI) >>> 0);
  bench.write64(0x20, 0x1234_5000n);
  bench.write32(GCMD, composed);
  t.is(bench.read32(GSTS), (TE | SRTP | QIE | IRE | SIRTP | CFI) >>> 0);
  t.is(bench.fault(0x1000), 1, 'the old root table, of zeros');
});

test('1.4 rule 2: any set of commands in one write gives the status of the same commands one by one', t => {
  const commands = [SRTP, SIRTP, QIE, TE, IRE, CFI];
  for (let set = 0; set < 64; set++) {
    const chosen = commands.filter((_, i) => (set >>> i) & 1);
    const together = new Bench({ intremap: true });
    together.write32(
      GCMD,
      chosen.reduce((sum, bit) => sum + bit, 0),
    );
    const singly = new Bench({ intremap: true });
    for (const bit of chosen) singly.command(bit);
    t.is(together.read32(GSTS), singly.read32(GSTS), chosen.map(bit => bit.toString(16)).join());
    t.is(
      together.read32(GSTS),
      chosen.reduce((sum, bit) => sum + bit, 0),
    );
  }
});

test('1.4 rule 2: one-shots come first, so that SRTP + TE and SIRTP + IRE in one write use the new tables', t => {
  const bench = new InterruptBench();
  bench.irte(3, PLAIN);
  const other = bench.page();
  bench.put64(other * 4096 + 0x30, 0x0000_0300_0042_0001n);
  bench.write32(GCMD, QIE);
  bench.write64(0xb8, BigInt(other * 4096 + 7));
  bench.write64(0x20, BigInt(bench.page() * 4096 + 0xc00));
  bench.write32(GCMD, TE | SRTP | QIE | IRE | SIRTP);
  t.deepEqual(bench.interrupt(3), { address: 0xfee0_3000n, data: 0x42 });
  t.is(bench.fault(0x1000), 0x30, 'the mode in RTADDR came into force');
});

test('1.4 rule 3: a level bit that already has its value starts nothing', t => {
  const { bench, second } = legacyBench();
  bench.enableQueue(false);
  const queue = Number(bench.read64(IQA));
  for (const at of [0, 16, 32]) bench.put64(queue + at, WAIT);
  bench.write32(IQT, 0x20);
  t.is(bench.read32(IQH), 0x20);
  bench.mapAt(second, 4, 0x5000n, 0x9003n, 3n);
  bench.request(0x5000);
  bench.mapAt(second, 4, 0x5000n, 0n, 3n);
  bench.write64(IQA, 0x7654_3000n);
  bench.write32(GCMD, TE | QIE);
  t.is(bench.read32(IQH), 0x20, 'the queue was not enabled anew');
  bench.write32(IQT, 0x30);
  t.is(bench.read32(IQH), 0x30, 'nor IQA latched');
  t.is(bench.fault(0x5000), 0, 'nor any cache dropped');
});

test('1.4 rule 4: SRTP latches each time; RTPS stays set', t => {
  const { bench } = legacyBench();
  for (const ttm of [0xc00n, 0x800n, 0n]) {
    bench.write64(0x20, (BigInt(bench.page()) << 12n) | ttm);
    bench.command(SRTP);
    t.is(bench.read32(GSTS), (TE | SRTP) >>> 0);
    t.is(bench.fault(0x1000), ttm === 0n ? 1 : 0x30);
    bench.write32(0x34, 1);
    bench.write32(0x22c, 0x8000_0000);
  }
});

test('1.4 rules 4, 13: without write buffer and fault log WBFS, FLS and AFLS stay 0', t => {
  const bench = new Bench({ intremap: true });
  for (const bit of [WBF, 0x2000_0000, 0x1000_0000]) {
    bench.write32(GCMD, bit);
    t.is(bench.read32(GSTS), 0, 'a driver that polls for 0 does not wait');
  }
  bench.write32(GCMD, 0x007f_ffff);
  t.is(bench.read32(GSTS), 0, 'nor do reserved bits');
});

test('1.4 rule 5: SRTP while TE = 1 is legal, and with ESRTPS flushes context cache, PASID cache and IOTLB itself', t => {
  const context = legacyBench({}, { tt: 2 });
  context.bench.request(0x5000);
  context.bench.put64(context.context, 0n);
  t.is(context.bench.fault(0x5000), 0);
  context.bench.command(SRTP);
  t.is(context.bench.fault(0x5000), 2);

  const pasid = scalableBench(FULL, { pgtt: 4 });
  pasid.bench.request(0x5000);
  pasid.bench.put64(pasid.entry, 0n);
  t.is(pasid.bench.fault(0x5000), 0);
  pasid.bench.command(SRTP);
  t.is(pasid.bench.fault(0x5000), 0x59);

  const page = legacyBench();
  page.bench.mapAt(page.second, 4, 0x5000n, 0x9003n, 3n);
  page.bench.request(0x5000);
  page.bench.mapAt(page.second, 4, 0x5000n, 0n, 3n);
  t.is(page.bench.fault(0x5000), 0);
  page.bench.command(SRTP);
  t.is(page.bench.fault(0x5000), 6);
});

test('1.4 rule 7: TE off: requests pass, whatever they are; pending fault records and caches stay', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0x5000n, 0x9003n, 3n);
  bench.request(0x5000);
  bench.mapAt(second, 4, 0x5000n, 0n, 3n);
  bench.fault(0x7000);
  bench.write32(GCMD, 0);
  t.like(bench.request(1n << 60n, Access.WRITE), { to: 0, shift: 64 });
  t.is(bench.read32(0x34), 2);
  t.is(bench.read64(0x220), 0x7000n);
  t.is(bench.read64(0x228), 0xc000_0006_0000_0113n);
  bench.write32(GCMD, TE);
  t.is(bench.fault(0x5000), 0);
});

test('1.4 rule 8: TE without an earlier SRTP is enabled: the root table is at 0', t => {
  const bench = new Bench();
  bench.write32(GCMD, TE);
  t.is(bench.read32(GSTS), TE);
  t.is(bench.fault(0x1000), 1);
});

test('1.4 rule 9: QIE resets IQH to 0; a tail that is there already is worked off at once, from head 0', t => {
  const bench = new Bench();
  const queue = bench.page() * 4096;
  for (let at = 0; at < 0x80; at += 16) bench.put64(queue + at, WAIT);
  bench.write64(IQA, BigInt(queue));
  bench.write32(GCMD, QIE);
  bench.write32(IQT, 0x40);
  t.is(bench.read32(IQH), 0x40);
  bench.write32(GCMD, 0);
  t.is(bench.read32(IQH), 0);
  bench.memory.loads = 0;
  bench.write32(GCMD, QIE);
  t.is(bench.read32(IQH), 0x40);
  t.is(bench.memory.loads, 4);
});

test('1.4 rule 10: QIE off clears QIES and IQH, always: empty, after another descriptor than a wait, and stopped', t => {
  const disabled = (words: readonly bigint[]): unknown[] => {
    const bench = new Bench();
    const queue = bench.page() * 4096;
    for (const [i, word] of words.entries()) bench.put64(queue + i * 16, word);
    bench.write64(IQA, BigInt(queue));
    bench.write32(GCMD, QIE);
    bench.write32(IQT, words.length * 16);
    const head = bench.read32(IQH);
    bench.write32(GCMD, 0);
    return [head, bench.read32(GSTS), bench.read32(IQH)];
  };
  t.deepEqual(disabled([]), [0, 0, 0]);
  t.deepEqual(disabled([WAIT]), [0x10, 0, 0]);
  t.deepEqual(disabled([WAIT, 0x12n]), [0x20, 0, 0]);
  t.deepEqual(disabled([WAIT, 0n, WAIT]), [0x10, 0, 0]);
});

test('1.4 rule 10: while QIE is off a new tail sets nothing off', t => {
  const bench = new Bench();
  bench.write64(IQA, BigInt(bench.page() * 4096));
  bench.memory.loads = 0;
  bench.write32(IQT, 0x40);
  t.deepEqual([bench.read32(IQH), bench.memory.loads, bench.read32(0x34)], [0, 0, 0]);
});

test('1.4 rule 11: IRE without an earlier SIRTP is enabled: no index is in the table', t => {
  const bench = new InterruptBench();
  bench.unit.reset();
  bench.write32(GCMD, IRE);
  t.is(bench.read32(GSTS), IRE);
  t.deepEqual(bench.interrupt(0), { fault: 0x21 });
});

test('1.4 rule 12: CFIS follows CFI, with EIME too', t => {
  for (const extended of [false, true]) {
    const bench = new InterruptBench({ eim: true }, 7, extended);
    bench.command(CFI);
    t.is((bench.read32(GSTS) & CFI) >>> 0, CFI);
    bench.write32(GCMD, (bench.read32(GSTS) & 0x96ff_ffff & ~CFI) >>> 0);
    t.is(bench.read32(GSTS) & CFI, 0);
  }
});

test('1.5: a TTM that is reserved or not offered faults every request with 0x30, FPD or not, until another SRTP', t => {
  const { bench } = legacyBench({}, { fpd: 1 });
  const root = bench.read64(0x20);
  for (const ttm of [0x400n, 0x800n, 0xc00n]) {
    bench.write64(0x20, root | ttm);
    bench.command(SRTP);
    for (const pasid of [-1, 5]) t.is(bench.fault(0x1000, Access.READ, pasid), 0x30);
  }
  t.is(bench.offered.length, 6);
  bench.write64(0x20, root);
  bench.command(SRTP);
  t.is(bench.fault(0x1000), 6);
});
