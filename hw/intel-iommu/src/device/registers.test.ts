import { Access } from '@remora/core';
import test from 'ava';
import { GlobalCommand, Reg, Ttm, virtualCommandLayout } from '../spec/index.js';
import { Bench, legacyBench } from './bench.test.helper.js';

const IM = 0x8000_0000;

test('reset values: everything 0 but the identification and the masked event controls', t => {
  const bench = new Bench();
  const expected = new Map<number, number>([
    [Reg.VER, 0x10],
    [Reg.CAP, 0x222f0606],
    [Reg.CAP + 4, 0x80d2008c],
    [Reg.ECAP, 0xf42],
    [Reg.FECTL, IM],
    [Reg.IECTL, IM],
  ]);
  for (let offset = 0; offset < 0x1000; offset += 4) t.is(bench.read32(offset), expected.get(offset) ?? 0, `${offset}`);
});

test('reset restores what software changed', t => {
  const { bench } = legacyBench();
  bench.write32(Reg.FECTL, 0);
  bench.enableQueue(false);
  bench.unit.reset();
  t.is(bench.read32(Reg.GSTS), 0);
  t.is(bench.read32(Reg.FECTL), IM);
  t.is(bench.read64(Reg.RTADDR), 0n);
  t.is(bench.read64(Reg.IQA), 0n);
  t.false(bench.unit.translationEnabled);
  t.deepEqual(bench.request(0x1234), { to: 0, shift: 64, access: Access.READ_WRITE | Access.EXECUTE });
});

/** Registers that software may write, with the bits that stick. */
const WRITABLE: readonly (readonly [string, number, bigint])[] = [
  ['RTADDR', Reg.RTADDR, 0xfffffffffffffc00n],
  ['IQA', Reg.IQA, 0xfffffffffffff807n],
  ['IRTA', Reg.IRTA, 0xfffffffffffff00fn],
];

for (const [name, offset, mask] of WRITABLE) {
  test(`${name} is one qword or two dwords; reserved bits stay 0`, t => {
    const bench = new Bench({ 'x-scalable-mode': 'on' });
    bench.write64(offset, 0xffff_ffff_ffff_ffffn);
    t.is(bench.read64(offset), mask);
    bench.write32(offset, 0);
    t.is(bench.read64(offset), mask & ~0xffff_ffffn);
    bench.write32(offset + 4, 0x1234_5678);
    t.is(bench.read32(offset + 4), 0x1234_5678);
    t.is(bench.read32(offset), 0);
  });
}

test('IQA.DW is reserved without scalable mode', t => {
  const bench = new Bench();
  bench.write64(Reg.IQA, 0xffff_ffff_ffff_ffffn);
  t.is(bench.read64(Reg.IQA), 0xfffffffffffff007n);
});

test('a qword write of two 32-bit registers writes both; upper message addresses need EIM', t => {
  for (const eim of [false, true]) {
    const bench = new Bench({ intremap: true, eim });
    bench.write64(Reg.FEADDR, 0x0000_00ff_fee0_1003n);
    t.is(bench.read32(Reg.FEADDR), 0xfee0_1000);
    t.is(bench.read32(Reg.FEUADDR), eim ? 0xff : 0);
  }
});

test('identification registers ignore writes', t => {
  const bench = new Bench();
  for (const offset of [Reg.CAP, Reg.ECAP, Reg.IQH, Reg.IQERCD]) {
    const before = bench.read64(offset);
    bench.write64(offset, 0xffff_ffff_ffff_ffffn);
    t.is(bench.read64(offset), before);
  }
  bench.write32(Reg.GSTS, 0xffff_ffff);
  t.is(bench.read32(Reg.GSTS), 0);
});

test('write-only fields read 0: GCMD, IVA, and SID and FM of CCMD', t => {
  const bench = new Bench();
  bench.write32(Reg.GCMD, GlobalCommand.SRTP);
  t.is(bench.read32(Reg.GCMD), 0);
  bench.write64(0xf0, 0x1234_5000n);
  t.is(bench.read64(0xf0), 0n);
  bench.write64(Reg.CCMD, 0x0000_0003_1234_5678n);
  t.is(bench.read64(Reg.CCMD), 0x5678n);
});

test('the root table pointer and its mode take effect at SRTP, not before', t => {
  const { bench } = legacyBench();
  const empty = bench.page();
  t.is(bench.fault(0x1000), 6);
  bench.write64(Reg.RTADDR, BigInt(empty * 4096 + 0x400));
  t.is(bench.fault(0x1000), 6, 'still the latched table');
  t.is(bench.read64(Reg.RTADDR), BigInt(empty * 4096 + 0x400), 'the register reads as written');
  bench.command(GlobalCommand.TE);
  t.is(bench.fault(0x1000), 6, 'another command does not latch it');
  bench.command(GlobalCommand.SRTP);
  t.is(bench.fault(0x1000), 0x30, 'scalable mode is not supported');
});

test('SRTP sets RTPS and, with ESRTPS, drops what the caches had', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0x5000n, 0x9003n, 3n);
  t.deepEqual(bench.request(0x5000), { to: 0x9000, shift: 12, access: Access.READ_WRITE | Access.EXECUTE });
  t.is(bench.read32(Reg.GSTS), 0xc000_0000);
  bench.setRoot(bench.page());
  t.is(bench.read32(Reg.GSTS), 0xc000_0000);
  t.is(bench.fault(0x5000), 1);
});

test('one write may carry several commands: one-shots come first', t => {
  const bench = new Bench();
  bench.write64(Reg.RTADDR, BigInt(bench.page() * 4096));
  bench.write32(Reg.GCMD, GlobalCommand.SRTP | GlobalCommand.TE | GlobalCommand.QIE);
  t.is(bench.read32(Reg.GSTS), 0xc400_0000);
  t.is(bench.fault(0), 1);
});

test('level commands follow the written value; TE off passes everything through and keeps faults', t => {
  const { bench } = legacyBench();
  t.is(bench.fault(0x1000), 6);
  bench.write32(Reg.GCMD, 0);
  t.is(bench.read32(Reg.GSTS), GlobalCommand.SRTP, 'one-shot status bits stay');
  t.is(bench.fault(0x1000), 0);
  t.is(bench.read32(Reg.FSTS) & 2, 2);
});

test('SIRTP, IRE and CFI need ECAP.IR; SFL, EAFL and WBF are not offered', t => {
  const all = 0xff80_0000 & ~0xc400_0000;
  const without = new Bench();
  without.write32(Reg.GCMD, all);
  t.is(without.read32(Reg.GSTS), 0);
  const bench = new Bench({ intremap: true });
  bench.write32(Reg.GCMD, all);
  t.is(bench.read32(Reg.GSTS) >>> 0, (GlobalCommand.IRE | GlobalCommand.SIRTP | GlobalCommand.CFI) >>> 0);
  bench.write32(Reg.GCMD, GlobalCommand.CFI);
  t.is(bench.read32(Reg.GSTS) >>> 0, (GlobalCommand.SIRTP | GlobalCommand.CFI) >>> 0);
});

test('modes: reserved, scalable without SMTS and abort without ADMS fault every request', t => {
  for (const ttm of [Ttm.SCALABLE, Ttm.RESERVED, Ttm.ABORT]) {
    const { bench } = legacyBench();
    bench.setRoot(bench.page(), ttm);
    t.is(bench.fault(0x1000), 0x30);
    t.is(bench.fault(0x1000, Access.WRITE, 5), 0x30);
  }
});

test('behaviour 6: without VCS neither virtual command layout exists', t => {
  for (const version of ['3.0', '3.3'] as const) {
    const layout = virtualCommandLayout(version);
    const bench = new Bench({ 'x-scalable-mode': 'legacy', 'vcmd-layout': version });
    bench.write64(layout.VCMD, 1n);
    for (const offset of [layout.VCMD, layout.VCRSP, layout.VCCAP]) t.is(bench.read64(offset), 0n);
  }
});

test('compat=qemu-10.2: the window ends at 0x230 and reads all ones beyond', t => {
  const bench = new Bench({ compat: 'qemu-10.2' });
  t.is(bench.read32(0x22c), 0);
  t.is(bench.read32(0x230), 0xffff_ffff);
  t.is(bench.read64(0xe00), 0xffff_ffff_ffff_ffffn);
  bench.write32(0xe00, 1);
});
