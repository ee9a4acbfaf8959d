import { Access } from '@remora/core';
import test from 'ava';
import { ContextCacheDescriptor, GlobalCommand, IotlbDescriptor, TranslationType } from '../spec/index.js';
import { DID, legacyBench, NOWHERE, RID, type Values } from './bench.test.helper.js';

const RW = 3n;
const ALL = Access.READ_WRITE | Access.EXECUTE;
const PT = { tt: TranslationType.PASS_THROUGH };

test('0x08: root table not readable; 0x01: not present; both whatever the context says', t => {
  const { bench, rootEntry } = legacyBench({}, { fpd: 1 });
  bench.put64(rootEntry, 0xffe_0000_0ffen);
  t.is(bench.fault(0), 0x01, 'reserved bits of an absent entry do not matter');
  bench.setRoot(NOWHERE);
  t.is(bench.fault(0), 0x08);
  t.deepEqual(bench.offered, [1, 8]);
});

test('0x0A: each reserved bit of a root entry', t => {
  const bits = [...range(1, 12), ...range(48, 64), ...range(64, 128)];
  for (const bit of bits) {
    const { bench, rootEntry } = legacyBench();
    bench.flip(rootEntry, bit);
    t.is(bench.fault(0), 0x0a, `bit ${bit}`);
    t.deepEqual(bench.offered, [0x0a]);
  }
});

test('0x09: context table not readable; 0x02: not present, only that', t => {
  const { bench, rootEntry, context } = legacyBench();
  bench.put64(context, 0xffff_ffff_ffff_fff0n);
  t.is(bench.fault(0), 0x02);
  bench.put64(rootEntry, BigInt(NOWHERE * 4096 + 1));
  t.is(bench.fault(0), 0x09);
});

test('0x0B: each reserved bit of a context entry; software and pass-through pointer bits are ignored', t => {
  const bits = [...range(4, 12), ...range(48, 64), 64 + 7, ...range(64 + 24, 128)];
  for (const bit of bits) {
    const { bench, context } = legacyBench();
    bench.flip(context, bit);
    t.is(bench.fault(0), 0x0b, `bit ${bit}`);
  }
  for (const bit of range(64 + 3, 64 + 7)) {
    const { bench, context } = legacyBench();
    bench.flip(context, bit);
    t.is(bench.fault(0), 0x06, `bit ${bit}`);
  }
  const passThrough = legacyBench({}, PT);
  passThrough.bench.flip(passThrough.context, 60);
  t.is(passThrough.bench.fault(0), 0);
});

test('0x0B is qualified in the specification, not in QEMU', t => {
  for (const compat of ['spec', 'qemu-10.2'] as const) {
    const { bench, context } = legacyBench({ compat }, { fpd: 1 });
    bench.flip(context, 4);
    t.is(bench.fault(0), 0x0b);
    t.is(bench.offered.length, compat === 'spec' ? 0 : 1);
  }
});

test('0x03: translation types and widths that are not offered', t => {
  const outcome = (options: object, context: Values): number => legacyBench(options, context).bench.fault(0);
  t.is(outcome({}, { tt: TranslationType.ATS }), 0x03);
  t.is(outcome({ 'device-iotlb': true }, { tt: TranslationType.ATS }), 0x06);
  t.is(outcome({}, PT), 0);
  t.is(outcome({ pt: false }, PT), 0x03);
  t.is(outcome({}, { tt: TranslationType.RESERVED }), 0x03);
  for (let aw = 0; aw < 8; aw++) {
    t.is(outcome({}, { aw }), aw === 1 || aw === 2 ? 0x06 : 0x03, `aw ${aw}`);
    t.is(outcome({ 'aw-bits': 39 }, { aw }), aw === 1 ? 0x06 : 0x03, `39 bits, aw ${aw}`);
    t.is(outcome({ 'aw-bits': 57 }, { aw }), aw >= 1 && aw <= 3 ? 0x06 : 0x03, `57 bits, aw ${aw}`);
    t.is(outcome({}, { ...PT, aw }), aw === 2 ? 0 : 0x03, `pass-through, aw ${aw}`);
  }
  t.is(outcome({ compat: 'qemu-10.2' }, { ...PT, aw: 1 }), 0, 'QEMU takes any supported width');
});

test('0x03: second-stage root not readable', t => {
  t.is(legacyBench({}, { ssptptr: NOWHERE }).bench.fault(0), 0x03);
});

test('pass-through: identity within the width, 0x04 beyond', t => {
  const { bench } = legacyBench({}, PT);
  t.deepEqual(bench.request(0xffff_ffff_f123n, Access.WRITE), { to: 0xffff_ffff_f000, shift: 12, access: ALL });
  t.is(bench.fault(1n << 48n), 0x04);
  t.is(bench.fault(0xffff_ffff_ffff_f000n), 0x04);
});

test('0x04: beyond the width of the table or of the unit', t => {
  t.is(legacyBench({}, {}, 3).bench.fault((1n << 39n) - 1n), 0x06);
  t.is(legacyBench({}, {}, 3).bench.fault(1n << 39n), 0x04);
  t.is(legacyBench().bench.fault((1n << 48n) - 1n), 0x06);
  t.is(legacyBench().bench.fault(1n << 48n), 0x04);
  t.is(legacyBench().bench.fault(1n << 63n), 0x04);
  t.is(legacyBench({ 'aw-bits': 57 }, {}, 5).bench.fault((1n << 57n) - 1n), 0x06);
  t.is(legacyBench({ 'aw-bits': 57 }, {}, 5).bench.fault(1n << 57n), 0x04);
});

test('0x31: a request with a PASID', t => {
  const { bench } = legacyBench();
  t.is(bench.fault(0, Access.READ, 0), 0x31);
});

test('three, four and five levels; pages of 4 KiB, 2 MiB and 1 GiB', t => {
  for (const levels of [3, 4, 5]) {
    for (const [level, shift] of [
      [1, 12],
      [2, 21],
      [3, 30],
    ] as const) {
      const { bench, second } = legacyBench({ 'aw-bits': 57 }, {}, levels);
      const top = 1n << BigInt(11 + 9 * levels);
      const iova = top | 0x1f_ffff_f000n;
      const leaf = (1n << 40n) | RW | (level > 1 ? 0x80n : 0n);
      bench.mapAt(second, levels, iova, leaf, RW, level);
      t.deepEqual(bench.request(iova), { to: 2 ** 40, shift, access: ALL });
      t.is(bench.fault(iova + (1n << BigInt(shift))), 0x06);
      t.deepEqual(bench.request(iova + 0x234n), { to: 2 ** 40, shift, access: ALL }, 'and again, from the IOTLB');
    }
  }
});

test('0x05, 0x06: permissions are the AND of all levels', t => {
  const outcome = (link: bigint, leaf: bigint, access: number): number => {
    const { bench, second } = legacyBench();
    bench.mapAt(second, 4, 0x5000n, 0x9000n | leaf, link);
    return bench.fault(0x5000, access);
  };
  t.is(outcome(3n, 1n, Access.READ), 0);
  t.is(outcome(3n, 1n, Access.WRITE), 0x05);
  t.is(outcome(3n, 2n, Access.READ), 0x06);
  t.is(outcome(3n, 2n, Access.WRITE), 0);
  t.is(outcome(1n, 3n, Access.WRITE), 0x05);
  t.is(outcome(2n, 3n, Access.READ), 0x06);
  t.is(outcome(3n, 1n, Access.READ_WRITE), 0x05, 'an atomic needs both');
  t.is(outcome(3n, 2n, Access.READ_WRITE), 0x06);
  t.is(outcome(1n, 2n, Access.READ), 0x06, 'nothing is left');
  t.is(outcome(3n, 2n, Access.NONE), 0x06, 'ZLR = 0: a zero-length read needs R');
  t.is(outcome(3n, 1n, Access.NONE), 0);
});

test('a structural fault on the way wins over a missing permission', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0x5000n, BigInt(0x9001) | (1n << 62n), 1n);
  t.is(bench.fault(0x5000, Access.WRITE), 0x0c);
  const compat = legacyBench({ compat: 'qemu-10.2' });
  compat.bench.mapAt(compat.second, 4, 0x5000n, BigInt(0x9001) | (1n << 62n), 1n);
  t.is(compat.bench.fault(0x5000, Access.WRITE), 0x05, 'QEMU looks at permissions first, level by level');
});

test('0x07: a table below the root is not readable', t => {
  const { bench, second } = legacyBench();
  bench.put64(second * 4096, BigInt(NOWHERE * 4096) | RW);
  t.is(bench.fault(0x5000), 0x07);
});

test('0x0C: each reserved bit of second-stage entries, by level', t => {
  const high = [...range(48, 52), 62];
  const cases: readonly (readonly [leafLevel: number, atLevel: number, bits: readonly number[]])[] = [
    [1, 1, [11, ...high]],
    [1, 2, [11, ...high]],
    [1, 3, [11, ...high]],
    [1, 4, [7, 11, ...high]],
    [2, 2, [11, ...range(12, 21), ...high]],
    [3, 3, [11, ...range(12, 30), ...high]],
  ];
  for (const [leafLevel, atLevel, bits] of cases) {
    for (let bit = 2; bit < 64; bit++) {
      const { bench, second } = legacyBench();
      bench.mapAt(second, 4, 0x5000n, leafLevel > 1 ? 0x4000_0083n : 0x9003n, RW, leafLevel);
      const address = tableAddress(bench, second, atLevel);
      // Other address bits lead elsewhere; PS makes another kind of entry.
      if (bit >= 12 && bit < 48 && !bits.includes(bit)) continue;
      if (bit === 7 && atLevel < 4) continue;
      bench.flip(address, bit);
      t.is(bench.fault(0x5000), bits.includes(bit) ? 0x0c : 0, `leaf ${leafLevel} at ${atLevel} bit ${bit}`);
    }
  }
});

test('SNP is allowed in leaves with snoop control', t => {
  const { bench, second } = legacyBench({ 'snoop-control': true });
  const leaf = bench.mapAt(second, 4, 0x5000n, 0x9803n, RW);
  t.is(bench.fault(0x5000), 0);
  const table = tableAddress(bench, second, 2);
  bench.flip(table, 11);
  bench.command(GlobalCommand.SRTP);
  t.is(bench.fault(0x5000 + 0x1000), 0x0c);
  t.not(leaf, table);
});

test('0x0E: an output in the interrupt range; large pages beside it keep working page by page', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0x5000n, 0xfee0_0003n, RW);
  t.is(bench.fault(0x5000), 0x0e);
  bench.mapAt(second, 4, 0x4000_0000n, 0xc000_0083n, RW, 3);
  const before = 0x4000_0000 + 0x3edf_f000;
  t.deepEqual(bench.request(before), { to: 0xfedf_f000, shift: 12, access: ALL });
  t.is(bench.fault(before + 0x1000), 0x0e);
  t.is(bench.fault(before + 0x10_0000), 0x0e);
  t.deepEqual(bench.request(before + 0x10_1000), { to: 0xfef0_0000, shift: 12, access: ALL });
  const compat = legacyBench({ compat: 'qemu-10.2' });
  compat.bench.mapAt(compat.second, 4, 0x4000_0000n, 0xc000_0083n, RW, 3);
  t.is(compat.bench.fault(0x4000_0000), 0x0e, 'QEMU refuses the whole page');
});

test('requests to the interrupt range: writes are interrupts and pass, whatever else is set up; others fault', t => {
  const { bench } = legacyBench();
  t.deepEqual(bench.request(0xfee0_1234, Access.WRITE), { to: 0xfee0_1000, shift: 12, access: ALL });
  t.is(bench.fault(0xfee0_0000, Access.READ), 0x0e);
  t.is(bench.fault(0xfeef_ffff, Access.READ_WRITE), 0x0e);
  t.is(bench.fault(0x1_fee0_0000, Access.WRITE), 0x05, 'the alias above 4 GiB is memory');
  t.is(bench.fault(0xfedf_ffff, Access.WRITE), 0x05);
  t.is(bench.fault(0xfef0_0000, Access.WRITE), 0x05);
});

test('the answer to a request without PASID does not reach into the interrupt range', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0xc000_0000n, 0x83n, RW, 3);
  for (const cached of [false, true]) {
    const message = `from the IOTLB: ${cached}`;
    t.deepEqual(bench.request(0xfedf_ffff), { to: 0x3edf_f000, shift: 12, access: ALL }, message);
  }
  t.is(bench.fault(0xfee0_0000), 0x0e);
  bench.mapAt(second, 4, 0x8000_0000n, 0x83n, RW, 3);
  t.deepEqual(bench.request(0xbfff_f000), { to: 0, shift: 30, access: ALL }, 'a page beside it is answered whole');
});

test('not-present entries are not checked for reserved bits', t => {
  const { bench, second } = legacyBench();
  bench.put64(second * 4096, 0xffff_ffff_ffff_fffcn);
  t.is(bench.fault(0x5000), 0x06);
});

test('tables are never written in legacy mode', t => {
  const { bench, second } = legacyBench();
  bench.mapAt(second, 4, 0x5000n, 0x9003n, RW);
  t.is(bench.fault(0x5000, Access.WRITE), 0);
  t.deepEqual(bench.memory.stores, []);
});

test('devices of one domain share translations; another domain does not', t => {
  const { bench, second, context } = legacyBench();
  const leaf = bench.mapAt(second, 4, 0x5000n, 0x9003n, RW);
  t.is(bench.fault(0x5000), 0);
  bench.put64(leaf, 0n);
  for (const [devfn, domain] of [
    [1, 7n],
    [2, 8n],
  ] as const) {
    const other = context + devfn * 16;
    bench.put64(other, bench.get64(context));
    bench.put64(other + 8, 2n | (domain << 8n));
  }
  t.is(bench.fault(0x5000, Access.READ, -1, RID + 1), 0, 'same domain: the cached translation');
  t.is(bench.fault(0x5000, Access.READ, -1, RID + 2), 0x06, 'other domain: a walk');
  bench.enableQueue(false);
  bench.submit(IotlbDescriptor, { type: 2, g: 1 });
  t.is(bench.fault(0x5000, Access.READ, -1, RID + 1), 0x06);
  t.is(bench.read32(0x1c) & GlobalCommand.QIE, GlobalCommand.QIE);
});

test('compat=qemu-10.2: reads never grant writing, and a cached answer may permit less than asked', t => {
  const { bench, second } = legacyBench({ compat: 'qemu-10.2' });
  bench.mapAt(second, 4, 0x5000n, 0x9003n, RW);
  bench.mapAt(second, 4, 0x6000n, 0xa001n, RW);
  t.like(bench.request(0x5000), { access: Access.READ | Access.EXECUTE });
  t.like(bench.request(0x5000, Access.WRITE), { access: ALL });
  t.is(bench.fault(0x6000, Access.WRITE), 0x05);
  t.is(bench.fault(0x6000), 0);
  t.like(bench.request(0x6000, Access.WRITE), { access: Access.READ | Access.EXECUTE });
});

test('compat=qemu-10.2: translations belong to the requester, and outlive its context entry', t => {
  const { bench, second, context } = legacyBench({ compat: 'qemu-10.2' });
  bench.mapAt(second, 4, 0x5000n, 0x9003n, RW);
  bench.put64(context + 16, bench.get64(context));
  bench.put64(context + 24, bench.get64(context + 8));
  t.is(bench.fault(0x5000), 0);
  bench.mapAt(second, 4, 0x5000n, 0n, RW);
  t.is(bench.fault(0x5000, Access.READ, -1, RID + 1), 0x06, 'the other device of the domain walks');
  bench.put64(context, 0n);
  bench.enableQueue(false);
  bench.submit(ContextCacheDescriptor, { type: 1, g: 3, sid: RID });
  t.is(bench.fault(0x5000), 0);
  bench.submit(IotlbDescriptor, { type: 2, g: 2, did: DID + 1 });
  t.is(bench.fault(0x5000), 0);
  bench.submit(IotlbDescriptor, { type: 2, g: 2, did: DID });
  t.is(bench.fault(0x5000), 0x02);
});

test('compat=qemu-10.2: the 1025th translation drops all the others', t => {
  const { bench, second } = legacyBench({ compat: 'qemu-10.2' });
  for (let page = 0; page < 1025; page++) bench.mapAt(second, 4, BigInt(page) << 12n, 0x9003n, RW);
  for (let page = 0; page < 1024; page++) bench.request(page * 4096);
  bench.mapAt(second, 4, 0n, 0n, RW);
  t.is(bench.fault(0), 0);
  bench.request(1024 * 4096);
  t.is(bench.fault(0), 0x06);
});

test('compat=qemu-10.2: leaves may have SNP with scalable mode and bit 62 with device TLBs', t => {
  const outcome = (options: object, bit: bigint, link = RW): number => {
    const { bench, second } = legacyBench({ compat: 'qemu-10.2', ...options });
    bench.mapAt(second, 4, 0x5000n, 0x9003n | bit, link);
    return bench.fault(0x5000);
  };
  t.is(outcome({}, 0x800n), 0x0c);
  t.is(outcome({ 'x-scalable-mode': 'on' }, 0x800n), 0);
  t.is(outcome({}, 1n << 62n), 0x0c);
  t.is(outcome({ 'device-iotlb': true }, 1n << 62n), 0);
  t.is(outcome({ 'device-iotlb': true }, 0n, RW | (1n << 62n)), 0x0c);
});

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

/** Address of the entry at `level` on the way to IOVA 0x5000 in a four-level table. */
function tableAddress(bench: { get64(address: number): bigint }, root: number, level: number): number {
  let table = root;
  for (let at = 4; ; at--) {
    const index = Number((0x5000n >> BigInt(3 + 9 * at)) & 0x1ffn);
    const address = table * 4096 + index * 8;
    if (at === level) return address;
    table = Number((bench.get64(address) >> 12n) & 0xff_ffff_ffffn);
  }
}
