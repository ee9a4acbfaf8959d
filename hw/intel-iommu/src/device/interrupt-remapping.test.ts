/** VT-d 5.1 as vtd.md 8 has it: formats, index, messages, checks, source validation. */
import test from 'ava';
import { Fault, GlobalCommand, InterruptEntry, Reg, XapicInterruptEntry } from '../spec/index.js';
import { NOWHERE, RID } from './bench.test.helper.js';
import { InterruptBench, PLAIN } from './interrupt-bench.test.helper.js';

const FRCD = 0x220;
const X2APIC = { eim: true };
const PLAIN_MESSAGE = { address: 0xfee0_3000n, data: 0x41 };

test('vtd.md 14: the worked entry at index 0x8005, asked for by the worked request', t => {
  const bench = new InterruptBench({}, 15);
  bench.put64(bench.at(0x8005), 0x0000_0300_0041_0001n);
  bench.put64(bench.at(0x8005) + 8, 0x0000_0000_0004_0100n);
  t.deepEqual(bench.message(0xfee0_00b4, 0, 0x100), { address: 0xfee0_3000n, data: 0x41 });
  t.deepEqual(bench.message(0xfee0_00b4, 0, 0x101), { fault: Fault.IR_7 });
});

test('while IRE is off every request passes as it is', t => {
  const bench = new InterruptBench();
  bench.command(0);
  bench.write32(Reg.GCMD, GlobalCommand.QIE);
  t.is(bench.read32(Reg.GSTS) & GlobalCommand.IRE, 0);
  t.deepEqual(bench.message(0xfee0_0010, 0xffff_1234), { address: 0xfee0_0010n, data: 0xffff_1234 });
  t.deepEqual(bench.message(0x12_3456_7890n, 1), { address: 0x12_3456_7890n, data: 1 });
});

test('compatibility format passes with CFI on and EIME off only', t => {
  for (const extended of [false, true]) {
    const bench = new InterruptBench(X2APIC, 7, extended);
    t.deepEqual(bench.message(0xfee0_100c, 0x4031), { fault: Fault.IR_6 });
    bench.command(GlobalCommand.CFI);
    const passed = { address: 0xfee0_100cn, data: 0x4031 };
    t.deepEqual(bench.message(0xfee0_100c, 0x4031), extended ? { fault: Fault.IR_6 } : passed);
    bench.write32(Reg.GCMD, bench.read32(Reg.GSTS) & 0x96ff_ffff & ~GlobalCommand.CFI);
    t.deepEqual(bench.message(0xfee0_100c, 0x4031), { fault: Fault.IR_6 });
  }
});

test('the handle is bits 19:5 and 2 of the address; the data are ignored without SHV', t => {
  const bench = new InterruptBench({}, 15);
  for (const index of [0, 1, 0x4000, 0x7fff, 0x8000, 0xffff]) {
    bench.irte(index, PLAIN);
    const address = 0xfee0_0010 + (index & 0x7fff) * 32 + (index >>> 15) * 4;
    t.deepEqual(bench.message(address, 0xffff_ffff), PLAIN_MESSAGE, index.toString(16));
    t.deepEqual(bench.message(address + 3), PLAIN_MESSAGE, 'address bits 1:0 are ignored');
  }
});

test('with SHV the low half of the data is added to the handle; its high half is reserved', t => {
  const bench = new InterruptBench();
  bench.irte(0x25, PLAIN);
  t.deepEqual(bench.interrupt(0x20, RID, 5), PLAIN_MESSAGE);
  t.deepEqual(bench.interrupt(0x20, RID, 4), { fault: Fault.IR_3 });
  for (let bit = 16; bit < 32; bit++) t.deepEqual(bench.interrupt(0x20, RID, 5 + 2 ** bit), { fault: Fault.IR_1 });
  bench.irte(0x40, { ...PLAIN, fpd: 1 });
  t.deepEqual(bench.interrupt(0x40, RID, 0x1_0000), { fault: Fault.IR_1 });
  t.true(bench.offered.includes(Fault.IR_1), 'FPD does not qualify it');
  t.deepEqual(bench.suppressed, []);
});

test('an address elsewhere is no interrupt request', t => {
  const bench = new InterruptBench();
  bench.irte(0, PLAIN);
  t.deepEqual(bench.message(0x1_fee0_0010n), { fault: Fault.IR_1 });
  t.deepEqual(bench.message(0xfed0_0010), { fault: Fault.IR_1 });
});

test('every table size: the last entry is served, the one after it is beyond, also if a subhandle leads there', t => {
  for (let size = 0; size <= 15; size++) {
    const bench = new InterruptBench({}, size);
    const last = 2 ** (size + 1) - 1;
    bench.irte(last, PLAIN);
    t.deepEqual(bench.interrupt(last), PLAIN_MESSAGE);
    t.deepEqual(bench.interrupt(last, RID, 1), { fault: Fault.IR_2 });
    if (size < 15) t.deepEqual(bench.interrupt(last + 1), { fault: Fault.IR_2 });
  }
});

test('a sum of more than 16 bits is beyond every table', t => {
  const bench = new InterruptBench({}, 15);
  bench.irte(1, PLAIN);
  t.deepEqual(bench.interrupt(0xffff, RID, 2), { fault: Fault.IR_2 });
});

test('before the first SIRTP no index is in the table; IRTA alone changes nothing', t => {
  const bench = new InterruptBench();
  bench.irte(200, PLAIN);
  const words = bench.read64(Reg.IRTA);
  bench.write64(Reg.IRTA, words & ~0xfn);
  t.deepEqual(bench.interrupt(200), PLAIN_MESSAGE);
  bench.unit.reset();
  bench.command(GlobalCommand.IRE);
  t.deepEqual(bench.interrupt(0), { fault: Fault.IR_2 });
});

test('an entry that cannot be read', t => {
  const bench = new InterruptBench();
  bench.latch(NOWHERE, 7);
  t.deepEqual(bench.interrupt(3), { fault: Fault.IR_4 });
});

test('a table across a 4 GiB boundary goes on above it, where this bench has no memory', t => {
  const bench = new InterruptBench();
  bench.put64(0, 0x0000_0300_0041_0001n);
  bench.latch(0xf_ffff, 15);
  t.deepEqual(bench.interrupt(256), { fault: Fault.IR_4 }, 'not the entry at address 0');
});

test('P = 0 with all other bits set is "not present", and FPD counts', t => {
  const bench = new InterruptBench();
  bench.put64(bench.at(3), 0xffff_ffff_ffff_fffcn);
  bench.put64(bench.at(3) + 8, 0xffff_ffff_ffff_ffffn);
  bench.put64(bench.at(4), 0xffff_ffff_ffff_fffen);
  t.deepEqual(bench.interrupt(3), { fault: Fault.IR_3 });
  t.deepEqual(bench.interrupt(4), { fault: Fault.IR_3 });
  t.deepEqual(bench.offered, [Fault.IR_3]);
  t.deepEqual(bench.suppressed, [Fault.IR_3]);
});

for (const extended of [false, true]) {
  const layout = extended ? InterruptEntry : XapicInterruptEntry;
  test(`each reserved bit of a remapped entry, one at a time, ${extended ? 'with' : 'without'} EIME`, t => {
    const bench = new InterruptBench(X2APIC, 7, extended);
    let reserved = 0;
    for (let bit = 0; bit < 128; bit++) {
      if (((layout.reserved[bit >>> 5]! >>> (bit & 31)) & 1) === 0) continue;
      reserved++;
      bench.irte(bit, PLAIN);
      bench.flip(bench.at(bit), bit);
      t.deepEqual(bench.interrupt(bit), { fault: Fault.IR_5 }, `bit ${bit}`);
    }
    t.is(reserved, 3 + 8 + (extended ? 0 : 24) + 44);
  });
}

test('reserved delivery modes, the reserved validation type and a posted entry without CAP.PI are reserved', t => {
  const bench = new InterruptBench();
  for (const [index, values] of [{ dlm: 3 }, { dlm: 6 }, { svt: 3 }, { im: 1 }].entries()) {
    bench.irte(index, { ...PLAIN, ...values });
    t.deepEqual(bench.interrupt(index), { fault: Fault.IR_5 }, JSON.stringify(values));
    bench.irte(index + 0x10, { ...PLAIN, ...values, fpd: 1 });
    t.deepEqual(bench.interrupt(index + 0x10), { fault: Fault.IR_5 });
  }
  t.is(bench.offered.length, 4);
  t.deepEqual(bench.suppressed, new Array(4).fill(Fault.IR_5));
});

test('the message: destination, hint, mode, delivery mode, trigger, vector', t => {
  const bench = new InterruptBench();
  const message = (index: number, values: object): unknown => {
    bench.irte(index, { ...PLAIN, ...values });
    return bench.interrupt(index);
  };
  t.deepEqual(message(0, { dst: 0xff00 }), { address: 0xfeef_f000n, data: 0x41 });
  t.deepEqual(message(1, { rh: 1 }), { address: 0xfee0_3008n, data: 0x41 });
  t.deepEqual(message(2, { dm: 1 }), { address: 0xfee0_3004n, data: 0x41 });
  t.deepEqual(message(3, { tm: 1 }), { address: 0xfee0_3000n, data: 0xc041 });
  t.deepEqual(message(4, { v: 0xff, avail: 0xf }), { address: 0xfee0_3000n, data: 0xff });
  for (const dlm of [1, 2, 4, 5, 7]) {
    t.deepEqual(message(8 + dlm, { dlm }), { address: 0xfee0_3000n, data: 0x41 + dlm * 0x100 });
  }
});

test('EIME: 32-bit destinations, of which bits 31:8 are the upper address', t => {
  const bench = new InterruptBench(X2APIC, 7, true);
  bench.irte(0, { ...PLAIN, dst: 0x1234_5678 });
  t.deepEqual(bench.interrupt(0), { address: 0x1234_5600_fee7_8000n, data: 0x41 });
  bench.irte(1, { ...PLAIN, dst: 0xffff_ffff, dm: 1 });
  t.deepEqual(bench.interrupt(1), { address: 0xffff_ff00_feef_f004n, data: 0x41 });
});

test('EIME is ignored without ECAP.EIM', t => {
  const bench = new InterruptBench({}, 7, true);
  bench.irte(0, PLAIN);
  t.deepEqual(bench.interrupt(0), PLAIN_MESSAGE);
});

test('source validation: SQ masks function bits', t => {
  const bench = new InterruptBench();
  const allowed = [
    [RID],
    [RID, RID ^ 4],
    [RID, RID ^ 2, RID ^ 4, RID ^ 6],
    [0, 1, 2, 3, 4, 5, 6, 7].map(bits => RID ^ bits),
  ];
  const requesters = [...allowed[3]!, RID ^ 8, RID ^ 0x100, RID ^ 0x8000];
  for (const [sq, passes] of allowed.entries()) {
    bench.irte(sq, { ...PLAIN, sid: RID, svt: 1, sq });
    for (const rid of requesters) {
      const expected = passes.includes(rid) ? PLAIN_MESSAGE : { fault: Fault.IR_7 };
      t.deepEqual(bench.interrupt(sq, rid), expected, `sq ${sq}, ${rid.toString(16)}`);
    }
  }
});

test('source validation: SVT 0 asks nothing, SVT 2 takes the buses from the first (high byte) to the last', t => {
  const bench = new InterruptBench();
  bench.irte(0, { ...PLAIN, sid: 0x1234, sq: 2 });
  bench.irte(1, { ...PLAIN, sid: 0x2022, svt: 2 });
  bench.irte(2, { ...PLAIN, sid: 0x2220, svt: 2 });
  bench.irte(3, { ...PLAIN, sid: 0x2020, svt: 2 });
  t.deepEqual(bench.interrupt(0, 0xffff), PLAIN_MESSAGE);
  for (let bus = 0x1f; bus <= 0x23; bus++) {
    const requester = bus * 256 + 0xa5;
    const inside = bus >= 0x20 && bus <= 0x22;
    t.deepEqual(bench.interrupt(1, requester), inside ? PLAIN_MESSAGE : { fault: Fault.IR_7 });
    t.deepEqual(bench.interrupt(2, requester), { fault: Fault.IR_7 }, 'from 22 to 20 there is none');
    t.deepEqual(bench.interrupt(3, requester), bus === 0x20 ? PLAIN_MESSAGE : { fault: Fault.IR_7 });
  }
});

test('a requester ff:1f.7 is verified as any other', t => {
  const bench = new InterruptBench();
  bench.irte(0, { ...PLAIN, sid: 0xff00, svt: 1 });
  t.deepEqual(bench.interrupt(0, 0xff00), PLAIN_MESSAGE);
  t.deepEqual(bench.interrupt(0, 0xffff), { fault: Fault.IR_7 });
});

test('source verification is the last check, and FPD qualifies it', t => {
  const bench = new InterruptBench();
  bench.irte(0, { ...PLAIN, sid: RID ^ 1, svt: 1, dlm: 3 });
  bench.irte(1, { ...PLAIN, sid: RID ^ 1, svt: 1, fpd: 1 });
  t.deepEqual(bench.interrupt(0), { fault: Fault.IR_5 });
  t.deepEqual(bench.interrupt(1), { fault: Fault.IR_7 });
  t.deepEqual(bench.offered, [Fault.IR_5]);
  t.deepEqual(bench.suppressed, [Fault.IR_7]);
});

test('the fault record: source, reason, index in bits 63:48, a write without PASID; and the message of the unit', t => {
  const bench = new InterruptBench();
  bench.write32(Reg.FEDATA, 0x21);
  bench.write32(Reg.FEADDR, 0xfee0_1000);
  bench.write32(Reg.FECTL, 0);
  t.deepEqual(bench.interrupt(0x70, RID, 0xf), { fault: Fault.IR_3 });
  t.is(bench.read64(FRCD), 0x007f_0000_0000_0000n);
  t.is(bench.read64(FRCD + 8), 0x8000_0022_0000_0113n);
  t.deepEqual(bench.messages, [{ address: 0xfee0_1000, data: 0x21 }], 'not remapped, not blocked');
});

test('asking without reporting records nothing', t => {
  const bench = new InterruptBench();
  t.deepEqual(bench.message(0xfee0_0010, 0, RID, false), { fault: Fault.IR_3 });
  t.is(bench.read32(Reg.FSTS), 0);
  t.deepEqual(bench.offered, []);
});

test('inspection shows table, mode and cached indices', t => {
  const bench = new InterruptBench(X2APIC, 7, true);
  bench.irte(9, PLAIN);
  bench.interrupt(9);
  const shown = bench.inspected();
  t.like(shown, { interruptRemapping: true, interruptTableEntries: 256, extendedInterruptMode: true });
  t.is(BigInt(shown['interruptTable'] as string), BigInt(bench.table * 4096));
  t.like(shown['caches'], { interruptEntries: [9] });
});
