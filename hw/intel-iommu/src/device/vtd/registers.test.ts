/** vtd.md 1.1 to 1.3 and the register rows of 1.5 to 1.14: widths, halves, reset values, writable bits. Offsets are the reference's. */
import { AddressSpace, Region } from '@remora/core';
import test from 'ava';
import { Bench, FULL, legacyBench } from '../bench.test.helper.js';
import { InterruptBench, PLAIN } from '../interrupt-bench.test.helper.js';

const ALL = 0xffff_ffff_ffff_ffffn;
const GCMD = 0x18;
const GSTS = 0x1c;
const CCMD = 0x28;
const FSTS = 0x34;
const FECTL = 0x38;
const FEDATA = 0x3c;
const IQH = 0x80;
const IQT = 0x88;
const IQERCD = 0xb0;
const IVA = 0xf0;
const IOTLB = 0xf8;
const FRCD = 0x220;

interface Row {
  readonly name: string;
  readonly offset: number;
  readonly bits: 32 | 64;
  readonly reset?: bigint;
  /** Bits that keep what is written. */
  readonly writable: bigint;
}

const CAPABILITIES: readonly Row[] = [
  { name: 'VER', offset: 0x00, bits: 32, reset: 0x10n, writable: 0n },
  { name: 'CAP', offset: 0x08, bits: 64, reset: 0x80d2_008c_222f_0606n, writable: 0n },
  { name: 'ECAP', offset: 0x10, bits: 64, reset: 0x0000_4800_80f0_0f4an, writable: 0n },
];

/** What a unit in scalable mode with interrupt remapping has. EIM makes upper message addresses and IRTA.EIME. */
const rows = (upper: bigint, eime: bigint): readonly Row[] => [
  { name: 'GSTS', offset: 0x1c, bits: 32, writable: 0n },
  { name: 'RTADDR', offset: 0x20, bits: 64, writable: 0xffff_ffff_ffff_fc00n },
  { name: 'FSTS', offset: 0x34, bits: 32, writable: 0n },
  { name: 'FECTL', offset: 0x38, bits: 32, reset: 0x8000_0000n, writable: 0x8000_0000n },
  { name: 'FEDATA', offset: 0x3c, bits: 32, writable: 0xffffn },
  { name: 'FEADDR', offset: 0x40, bits: 32, writable: 0xffff_fffcn },
  { name: 'FEUADDR', offset: 0x44, bits: 32, writable: upper },
  { name: 'IQH', offset: 0x80, bits: 64, writable: 0n },
  { name: 'IQA', offset: 0x90, bits: 64, writable: 0xffff_ffff_ffff_f807n },
  { name: 'ICS', offset: 0x9c, bits: 32, writable: 0n },
  { name: 'IECTL', offset: 0xa0, bits: 32, reset: 0x8000_0000n, writable: 0x8000_0000n },
  { name: 'IEADDR', offset: 0xa8, bits: 32, writable: 0xffff_fffcn },
  { name: 'IEUADDR', offset: 0xac, bits: 32, writable: upper },
  { name: 'IQERCD', offset: 0xb0, bits: 64, writable: 0n },
  { name: 'IRTA', offset: 0xb8, bits: 64, writable: 0xffff_ffff_ffff_f00fn | eime },
  { name: 'FRCD0 low', offset: 0x220, bits: 64, writable: 0n },
  { name: 'FRCD0 high', offset: 0x228, bits: 64, writable: 0n },
];

const OPTIONS = { 'x-scalable-mode': 'on', intremap: true } as const;
const read = (bench: Bench, { offset, bits }: Row): bigint =>
  bits === 64 ? bench.read64(offset) : BigInt(bench.read32(offset));
const write = (bench: Bench, { offset, bits }: Row, value: bigint): void =>
  bits === 64 ? bench.write64(offset, value) : bench.write32(offset, Number(value & 0xffff_ffffn));

for (const eim of [false, true]) {
  test(`1.2: reset values and writable bits, each bit alone, ${eim ? 'with' : 'without'} EIM`, t => {
    const bench = new Bench({ ...OPTIONS, eim });
    for (const row of [...(eim ? [] : CAPABILITIES), ...rows(eim ? 0xffff_ffffn : 0n, eim ? 0x800n : 0n)]) {
      const reset = row.reset ?? 0n;
      t.is(read(bench, row), reset, `${row.name}: reset`);
      for (let bit = 0n; bit < row.bits; bit++) {
        write(bench, row, 1n << bit);
        t.is(read(bench, row), (reset & ~row.writable) | (row.writable & (1n << bit)), `${row.name}: bit ${bit}`);
      }
      write(bench, row, ALL);
      t.is(read(bench, row), (reset & ~row.writable) | row.writable, `${row.name}: ones`);
      write(bench, row, 0n);
      t.is(read(bench, row), reset & ~row.writable, `${row.name}: zeros`);
    }
  });
}

test('1.8: IEDATA keeps message data 15:0 and nothing else', t => {
  const bench = new Bench();
  t.is(bench.read32(0xa4), 0);
  bench.write32(0xa4, 0x1234_a5c3);
  t.is(bench.read32(0xa4), 0xa5c3);
});

test('1.1 rule 2: accesses of 4 and 8 bytes are legal, of 1 and 2 bytes not', t => {
  const bench = new Bench();
  const root = Region.container('root', 0x10000);
  root.add(0, Region.mmio('vtd', bench.unit.mmioBytes, bench.unit.mmio));
  const space = new AddressSpace('bus', root);
  for (const size of [1, 2, 4, 8]) {
    const legal = size >= 4;
    const bytes = new Uint8Array(size);
    t.is(space.read(0, 0x38, bytes) === 0, legal, `read of ${size}`);
    if (legal) t.is(bytes[3], 0x80, 'FECTL');
    bench.write32(0x40, 0);
    t.is(space.write(0, 0x40, new Uint8Array(size).fill(0x44)) === 0, legal, `write of ${size}`);
    t.is(bench.read32(0x40), legal ? 0x4444_4444 : 0);
  }
});

test('1.1 rule 3: 64-bit registers as one qword or as two dwords, in either order', t => {
  const value = 0x0123_4567_89ab_c000n;
  for (const offset of [0x20, 0x90, 0xb8]) {
    for (const order of [
      [0, 4],
      [4, 0],
    ]) {
      const bench = new Bench(OPTIONS);
      for (const half of order) bench.write32(offset + half, Number((value >> BigInt(8 * half)) & 0xffff_ffffn));
      t.is(bench.read64(offset), value);
      t.is(bench.read32(offset), 0x89ab_c000);
      t.is(bench.read32(offset + 4), 0x0123_4567);
      const whole = new Bench(OPTIONS);
      whole.write64(offset, value);
      t.is(whole.read64(offset), value);
    }
  }
});

test('1.1 rule 3: a half leaves the other half of a 64-bit register alone', t => {
  const bench = new Bench(OPTIONS);
  for (const offset of [0x20, 0x90, 0xb8]) {
    bench.write64(offset, 0x1111_1111_2222_2000n);
    bench.write32(offset + 4, 0x3333_3333);
    t.is(bench.read64(offset), 0x3333_3333_2222_2000n);
    bench.write32(offset, 0x4444_4000);
    t.is(bench.read64(offset), 0x3333_3333_4444_4000n);
  }
});

test('1.1 rule 3: an 8-byte access on two 32-bit registers is two dword accesses, low first', t => {
  const { bench } = legacyBench({ intremap: true, eim: true });
  bench.write64(0x40, 0x0000_0100_fee0_1000n);
  t.is(bench.read32(0x40), 0xfee0_1000);
  t.is(bench.read32(0x44), 0x100);
  t.is(bench.read64(0x40), 0x0000_0100_fee0_1000n);
  bench.write32(FEDATA, 0x31);
  bench.fault(0x1000);
  // FECTL is the low one: what is pending goes out with the data of before.
  bench.write64(FECTL, 0x0000_0099_0000_0000n);
  t.deepEqual(bench.messages, [{ address: 0x100_fee0_1000, data: 0x31 }]);
  t.is(bench.read32(FEDATA), 0x99);
});

test('1.1 rule 4: CCMD and IOTLB act on the write that touches their high dword', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0x5000n, 0x9003n, 3n);
  bench.request(0x5000);
  bench.mapAt(second, 4, 0x5000n, 0n, 3n);
  bench.write32(IOTLB, 0xffff_ffff);
  t.is(bench.fault(0x5000), 0);
  bench.write32(IOTLB + 4, 0x9000_0000);
  t.is(bench.fault(0x5000), 6);
  t.is(bench.read32(IOTLB + 4), 0x1200_0000, 'IVT clear, IIRG and IAIG global');
  bench.write32(CCMD, 0x8000_0000);
  t.is(bench.read32(CCMD + 4), 0, 'bit 31 of the low dword is no command');
  bench.write32(CCMD + 4, 0xa000_0000);
  t.is(bench.read32(CCMD + 4), 0x2800_0000, 'ICC clear, CIRG and CAIG global');
});

test('1.1 rule 4: IQT acts on any write of its low dword; a qword acts once, with all 64 bits', t => {
  const { bench } = legacyBench();
  bench.enableQueue(false);
  const wait = Number(bench.read64(0x90));
  for (const at of [0, 16, 32, 48]) bench.put64(wait + at, 0x45n);
  bench.write32(IQT + 4, 0);
  t.is(bench.read32(IQH), 0);
  bench.write32(IQT, 0x10);
  t.is(bench.read32(IQH), 0x10);
  bench.write64(IQT, 0x20n);
  t.is(bench.read32(IQH), 0x20);
  bench.memory.loads = 0;
  bench.write64(IQT, 0x1_0000_0030n);
  t.is(bench.read32(IQH), 0x20);
  t.is(bench.memory.loads, 0, 'the low half alone would have been in order');
  t.is(Number(bench.read64(IQERCD)) & 0xf, 1);
});

test('1.1 rule 5: unimplemented offsets read 0 and ignore writes', t => {
  const bench = new Bench({ intremap: true, eim: true, 'x-scalable-mode': 'on', 'fault-records': 2 });
  const known = new Set([0x00, 0x08, 0x0c, 0x10, 0x14, GCMD, GSTS, 0x20, 0x24, CCMD, CCMD + 4, FSTS, FECTL, FEDATA]);
  for (const at of [0x40, 0x44, 0x80, 0x84, 0x88, 0x8c, 0x90, 0x94, 0x9c, 0xa0, 0xa4, 0xa8, 0xac, 0xb0, 0xb4])
    known.add(at);
  for (const at of [0xb8, 0xbc, IVA, IVA + 4, IOTLB, IOTLB + 4]) known.add(at);
  for (let at = 0x220; at < 0x240; at += 4) known.add(at);
  let swept = 0;
  for (let at = 0; at < 0x1000; at += 4) {
    if (known.has(at)) continue;
    swept++;
    bench.write32(at, 0xffff_ffff);
    t.is(bench.read32(at), 0, `0x${at.toString(16)}`);
  }
  t.true(swept > 900);
});

test('1.2: AFLOG, PMEN and the protected ranges, MTRRs, performance and command blocks are not offered: RAZ/WI', t => {
  const bench = new Bench(FULL);
  const blocks: readonly (readonly [number, number])[] = [
    [0x58, 0x60],
    [0x64, 0x80],
    [0x100, 0x220],
    [0x300, 0x338],
    [0x380, 0x388],
    [0x400, 0x450],
    [0xe00, 0xe40],
  ];
  for (const [first, end] of blocks) {
    for (let at = first; at < end; at += 8) {
      if (at % 8 === 0) bench.write64(at, ALL);
      else bench.write32(at, 0xffff_ffff);
      t.is(bench.read32(at), 0, `0x${at.toString(16)}`);
      t.is(bench.read32(at + 4 < end ? at + 4 : at), 0);
    }
  }
});

test('1.1 rule 6, 1.8: FSTS: PFO, IQE, ICE, ITE are cleared by their own 1 only; PPF is read-only', t => {
  for (const [bit, clears] of [
    [0, true],
    [1, false],
    [4, true],
    [5, true],
    [6, true],
  ] as const) {
    const bench = new Bench();
    bench.unit.registers.set(FSTS, 0x73);
    bench.write32(FSTS, 0);
    t.is(bench.read32(FSTS), 0x73, 'writing 0 has no effect');
    bench.write32(FSTS, 1 << bit);
    t.is(bench.read32(FSTS), clears ? 0x73 & ~(1 << bit) : 0x73, `bit ${bit}`);
  }
});

test('1.8: FSTS.FRI and the reserved bits of FSTS are read-only', t => {
  const bench = new Bench();
  bench.unit.registers.set(FSTS, 0x0502);
  bench.write32(FSTS, 0xffff_ffff);
  t.is(bench.read32(FSTS), 0x0502);
});

test('1.1 rule 6, 1.10: ICS.IWC is cleared by 1 only', t => {
  const bench = new Bench();
  bench.unit.registers.set(0x9c, 1);
  bench.write32(0x9c, 0xffff_fffe);
  t.is(bench.read32(0x9c), 1);
  bench.write32(0x9c, 1);
  t.is(bench.read32(0x9c), 0);
});

test('1.14: of a fault record F alone is written, and only to clear it', t => {
  const { bench } = legacyBench();
  bench.fault(0x1234_5000);
  for (const offset of [0, 4, 8]) {
    const before = bench.read32(FRCD + offset);
    bench.write32(FRCD + offset, 0xffff_ffff);
    bench.write32(FRCD + offset, 0);
    t.is(bench.read32(FRCD + offset), before);
  }
  bench.write32(FRCD + 12, 0x7fff_ffff);
  t.is(bench.read32(FRCD + 12), 0xc000_0006);
  bench.write32(FRCD + 12, 0x8000_0000);
  t.is(bench.read32(FRCD + 12), 0x4000_0006);
});

test('1.1 rule 7: write-only fields read 0', t => {
  const bench = new Bench({ intremap: true });
  for (const value of [0xffff_ffff, 0x0400_0000, 0x007f_ffff]) {
    bench.write32(GCMD, value);
    t.is(bench.read32(GCMD), 0);
  }
  bench.write64(IVA, ALL);
  t.is(bench.read64(IVA), 0n);
  bench.write64(CCMD, 0x7fff_ffff_ffff_ffffn);
  t.is(bench.read64(CCMD), 0x6000_0000_0000_ffffn, 'CIRG and DID read back; CAIG, FM and SID do not');
  bench.write64(IOTLB, 0x7fff_ffff_ffff_ffffn);
  t.is(bench.read64(IOTLB), 0x3003_ffff_0000_0000n, 'IIRG, DR, DW and DID');
});

test('1.1 rule 9: IRTA is latched by SIRTP; reads return the raw value', t => {
  const bench = new InterruptBench();
  bench.irte(3, PLAIN);
  bench.write64(0xb8, 0x1234_500fn);
  t.is(bench.read64(0xb8), 0x1234_500fn);
  t.deepEqual(bench.interrupt(3), { address: 0xfee0_3000n, data: 0x41 });
  bench.command(0x0100_0000);
  t.deepEqual(bench.interrupt(4), { fault: 0x23 }, 'now the table is where nothing answers');
});
