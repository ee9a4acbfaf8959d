/** vtd.md 1.14, 6.1 and 6.2: what a record holds, the ring of every size, overflow, and Linux's handler on top of it. */
import { Access } from '@remora/core';
import test from 'ava';
import { type Bench, FULL, legacyBench, RID, scalableBench } from '../bench.test.helper.js';

const FSTS = 0x34;
const FRCD = 0x220;
const PFO = 1;
const PPF = 2;

const high = (bench: Bench, index = 0): bigint => bench.read64(FRCD + index * 16 + 8);
const clear = (bench: Bench, index: number): void => bench.write32(FRCD + index * 16 + 12, 0x8000_0000);

/** The records with F set, by address. */
function pending(bench: Bench, count: number): (bigint | undefined)[] {
  return Array.from({ length: count }, (_, i) =>
    high(bench, i) >> 63n === 1n ? bench.read64(FRCD + i * 16) : undefined,
  );
}

test('1.14: type bits {T2, T1}: write 0, read 1, atomic 3; an execute request is a read', t => {
  for (const [access, t1, t2] of [
    [Access.WRITE, 0n, 0n],
    [Access.READ, 1n, 0n],
    [Access.NONE, 1n, 0n],
    [Access.READ_WRITE, 1n, 1n],
    [Access.READ | Access.EXECUTE, 1n, 0n],
  ] as const) {
    const { bench } = legacyBench();
    bench.fault(0x1000, access);
    t.deepEqual([(high(bench) >> 62n) & 1n, (high(bench) >> 28n) & 1n], [t1, t2], `access ${access}`);
    t.is((high(bench) >> 60n) & 3n, 0n, 'AT: untranslated');
  }
});

test('1.14: PV, PP, EXE and PRIV: for a request with a PASID, each bit of it; nothing of a RID_PASID lookup', t => {
  for (let bit = 0; bit < 13; bit++) {
    const { bench } = scalableBench(FULL, {}, { paside: 1 });
    const pasid = 2 ** bit;
    bench.fault(0x1000, Access.READ | Access.EXECUTE | Access.PRIVILEGED, pasid);
    t.is((high(bench) >> 40n) & 0xf_ffffn, BigInt(pasid));
    t.is((high(bench) >> 29n) & 7n, 7n, 'PP, EXE, PRIV');
  }
  const { bench } = scalableBench({ ...FULL, 'x-rps': true }, {}, { ridPasid: 9 });
  bench.fault(0x1000, Access.READ | Access.EXECUTE | Access.PRIVILEGED);
  t.is(high(bench), 0xc000_0059_0000_0113n);
});

test('1.14: SID, and FI of every page of the address; the low twelve bits are 0', t => {
  const { bench } = legacyBench({ 'fault-records': 64 });
  for (let bit = 12; bit < 64; bit++) {
    bench.fault((1n << BigInt(bit)) | 0xfffn, Access.READ, -1, RID ^ 0x100);
    t.is(bench.read64(FRCD + (bit - 12) * 16), 1n << BigInt(bit));
    t.is(high(bench, bit - 12) & 0xffffn, BigInt(RID ^ 0x100));
  }
});

for (const records of [1, 2, 3, 128]) {
  test(`6.1: a ring of ${records}: FRI, advancing modulo, overflow, and what PFO drops`, t => {
    const { bench } = legacyBench({ 'fault-records': records });
    t.is((bench.read64(0x08) >> 40n) & 0xffn, BigInt(records - 1), 'CAP.NFR');
    for (let n = 0; n < records; n++) {
      bench.fault((n + 1) * 4096);
      t.is(bench.read32(FSTS), PPF, 'FRI stays at the first');
    }
    t.deepEqual(
      pending(bench, records),
      Array.from({ length: records }, (_, n) => BigInt((n + 1) * 4096)),
    );
    bench.fault(0x7777_7000);
    t.is(bench.read32(FSTS), PPF | PFO);
    t.false(pending(bench, records).includes(0x7777_7000n));
    clear(bench, 0);
    bench.fault(0x7777_8000);
    t.is(pending(bench, records)[0], undefined, 'free, but PFO is set');
    bench.write32(FSTS, PFO);
    bench.fault(0x7777_9000);
    t.is(pending(bench, records)[0], 0x7777_9000n, 'the next one in turn');
    for (let n = 0; n < records; n++) clear(bench, n);
    t.is(bench.read32(FSTS) & 0xff, 0);
    bench.fault(0x7777_a000);
    t.is(bench.read32(FSTS), PPF | ((1 % records) << 8), 'FRI is where the first one of a new round went');
  });
}

test('6.1 step 2: faults of one source are not compressed: each has its record', t => {
  const { bench } = legacyBench({ 'fault-records': 4 });
  for (let n = 0; n < 3; n++) bench.fault(0x5000);
  t.deepEqual(pending(bench, 4), [0x5000n, 0x5000n, 0x5000n, undefined]);
});

/** The interrupt handler of section 6.2. Returns reason, source and address of each record, and whether it wrote anything. */
function handler(bench: Bench, records: number): { faults: unknown[]; wrote: boolean } {
  const status = bench.read32(FSTS);
  if ((status & PPF) === 0) return { faults: [], wrote: false };
  const faults: unknown[] = [];
  for (let index = (status >>> 8) & 0xff; ; index = (index + 1) % records) {
    const last = bench.read32(FRCD + index * 16 + 12);
    if (last >>> 31 === 0) break;
    const source = bench.read32(FRCD + index * 16 + 8) & 0xffff;
    faults.push([last & 0xff, (last >>> 30) & 1, source, bench.read64(FRCD + index * 16)]);
    bench.write32(FRCD + index * 16 + 12, 0x8000_0000);
  }
  bench.write32(FSTS, 0x83);
  return { faults, wrote: true };
}

test('6.2: the handler finds every record in order, from FRI around the end, and leaves nothing pending', t => {
  const { bench } = legacyBench({ 'fault-records': 4 });
  bench.write32(0x3c, 0x31);
  bench.write32(0x38, 0);
  let page = 1;
  for (const count of [1, 3, 4, 2, 4]) {
    const sent = bench.messages.length;
    const expected = Array.from({ length: count }, () => page++).map(n => [
      n % 2 === 0 ? 5 : 6,
      (n % 2) as number,
      RID,
      BigInt(n * 4096),
    ]);
    for (const [reason, , , address] of expected)
      bench.fault(address as bigint, reason === 5 ? Access.WRITE : Access.READ);
    t.is(bench.messages.length, sent + 1, 'one event');
    t.deepEqual(handler(bench, 4), { faults: expected, wrote: true });
    t.is(bench.read32(FSTS) & 0xff, 0);
    t.is(bench.read32(0x38), 0);
  }
});

test('6.2 step 1: a lone PFO makes the handler leave without writing; it stays, and blocks recording', t => {
  const { bench } = legacyBench();
  bench.fault(0x1000);
  bench.fault(0x2000);
  clear(bench, 0);
  t.is(bench.read32(FSTS), PFO);
  t.deepEqual(handler(bench, 1), { faults: [], wrote: false });
  bench.fault(0x3000);
  t.is(bench.read32(FSTS), PFO);
  bench.write32(FSTS, 0x83);
  bench.fault(0x4000);
  t.is(bench.read64(FRCD), 0x4000n);
});

test('6.2 step 4: writing bits 0, 1 and 7 clears PFO only', t => {
  const { bench } = legacyBench();
  bench.fault(0x1000);
  bench.fault(0x2000);
  bench.write32(FSTS, 0x83);
  t.is(bench.read32(FSTS), PPF);
});
