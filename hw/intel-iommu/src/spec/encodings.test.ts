import { bigOf, type RecordType } from '@remora/bits';
import test from 'ava';
import {
  ContextCacheDescriptor,
  ContextEntry,
  DeviceTlbDescriptor,
  Fault,
  FaultRecord,
  faultName,
  InterruptEntry,
  InterruptEntryCacheDescriptor,
  InterruptMessage,
  InterruptRequest,
  IotlbDescriptor,
  PageGroupResponseDescriptor,
  PageRequestDescriptor,
  PasidCacheDescriptor,
  PasidDeviceTlbDescriptor,
  PasidEntry,
  PasidIotlbDescriptor,
  PostedDescriptor,
  PostedInterruptEntry,
  QUALIFIED,
  RootEntry,
  ScalableContextEntry,
  ScalableRootEntry,
  WaitDescriptor,
  XapicInterruptEntry,
  XapicPostedDescriptor,
} from './index.js';

const quads = (words: Int32Array): bigint[] =>
  Array.from({ length: words.length / 2 }, (_, i) => bigOf(words[2 * i + 1]!, words[2 * i]!));
const reserved = (type: RecordType): bigint[] => quads(type.reserved);
const ALL = 0xffff_ffff_ffff_ffffn;

/** vtd.md 14. */
const WORKED: readonly (readonly [string, Int32Array, bigint, bigint])[] = [
  ['CC device', ContextCacheDescriptor.encode({ type: 1, g: 3, sid: 0xf8 }), 0x000000f800000031n, 0n],
  [
    'IOTLB page',
    IotlbDescriptor.encode({ type: 2, g: 3, did: 5, addr: 0x12345, ih: 1, dr: 1, dw: 1 }),
    0x00000000000500f2n,
    0x0000000012345040n,
  ],
  ['PIOTLB all', PasidIotlbDescriptor.encode({ type: 6, g: 2, did: 1 }), 0x10026n, 0n],
  ['PASID cache', PasidCacheDescriptor.encode({ type: 7, g: 1, did: 1, pasid: 5 }), 0x0000000500010017n, 0n],
  [
    'device TLB, everything',
    DeviceTlbDescriptor.encode({ type: 3, sid: 0x100, s: 1, addr: 0x7ffffffffffff }),
    0x0000010000000003n,
    0x7ffffffffffff001n,
  ],
  [
    'PASID device TLB, everything',
    PasidDeviceTlbDescriptor.encode({ type: 8, sid: 0x100, pasid: 5, s: 1, addr: 0x7ffffffffffff }),
    0x0000000501000008n,
    0x7ffffffffffff800n,
  ],
  ['IEC global', InterruptEntryCacheDescriptor.encode({ type: 4 }), 4n, 0n],
  ['IEC index 5', InterruptEntryCacheDescriptor.encode({ type: 4, g: 1, iidx: 5 }), 0x0000000500000014n, 0n],
  [
    'wait',
    WaitDescriptor.encode({ type: 5, sw: 1, statusData: 2, statusAddressLow: 0x1000 / 4 }),
    0x0000000200000025n,
    0x1000n,
  ],
  [
    'page request',
    PageRequestDescriptor.encode({ type: 1, pp: 1, rid: 0x100, pasid: 5, prgi: 3, lpig: 1, rd: 1, wr: 1, addr: 0x7f0 }),
    0x0000000501000101n,
    0x00000000007f001fn,
  ],
  [
    'page group response',
    PageGroupResponseDescriptor.encode({ type: 9, pp: 1, rid: 0x100, pasid: 5, prgi: 3 }),
    0x0000000501000019n,
    0x18n,
  ],
];

for (const [name, words, low, high] of WORKED) {
  test(`vtd.md 14: ${name}`, t => {
    t.deepEqual(quads(words), [low, high, 0n, 0n]);
  });
}

test('vtd.md 14: fault records', t => {
  const read = FaultRecord.encode({ fi: 0x1234, sid: 0x100, fr: Fault.SSS_2, t1: 1, f: 1 });
  t.deepEqual(quads(read), [0x1234000n, 0xc000007900000100n]);
  const write = FaultRecord.encode({ sid: 0x100, fr: Fault.SFS_2, pp: 1, pv: 5, f: 1 });
  t.deepEqual(quads(write), [0n, 0x8000057180000100n]);
});

test('vtd.md 14: an interrupt entry, the request that leads to it, and its message', t => {
  const values = { p: 1, v: 0x41, sid: 0x100, svt: 1 };
  const entry = [0x0000030000410001n, 0x0000000000040100n];
  t.deepEqual(quads(XapicInterruptEntry.encode({ ...values, dst: 3 })), entry);
  t.deepEqual(quads(InterruptEntry.encode({ ...values, dst: 0x300 })), entry);
  const request = { head: 0xfee, format: 1, handleLow: 5, handleHigh: 1 };
  t.deepEqual(quads(InterruptRequest.encode(request)), [0xfee000b4n]);
  t.deepEqual(quads(InterruptMessage.encode({ head: 0xfee, destination: 3, vector: 0x41 })), [0x41_fee03000n]);
});

test('posted formats: fields where vtd.md 8.2 has them', t => {
  const entry = { p: 1, urg: 1, im: 1, v: 0x41, pdaLow: 0x12345640 / 64, pdaHigh: 0xabcd, sid: 0x100, sq: 2, svt: 1 };
  t.deepEqual(quads(PostedInterruptEntry.encode(entry)), [0x123456400041c001n, 0x0000abcd00060100n]);
  const posted = [0n, 1n << 63n, 0n, 0n, 0x0000070000f20003n, 0n, 0n, 0n];
  t.deepEqual(quads(XapicPostedDescriptor.encode({ pir1: 1n << 63n, on: 1, sn: 1, nv: 0xf2, ndst: 7 })), posted);
  t.deepEqual(quads(PostedDescriptor.encode({ pir1: 1n << 63n, on: 1, sn: 1, nv: 0xf2, ndst: 0x700 })), posted);
});

test('reserved bits of interrupt structures are those of vtd.md 8', t => {
  t.deepEqual(reserved(InterruptRequest), [0xffff000000000000n]);
  t.deepEqual(reserved(InterruptEntry), [0xff007000n, 0xfffffffffff00000n]);
  t.deepEqual(reserved(XapicInterruptEntry), [0xffff00ffff007000n, 0xfffffffffff00000n]);
  t.deepEqual(reserved(PostedInterruptEntry), [0x0000003fff0030fcn, 0x00000000fff00000n]);
  t.deepEqual(reserved(PostedDescriptor), [0n, 0n, 0n, 0n, 0xff00fffcn, ALL, ALL, ALL]);
  t.deepEqual(reserved(XapicPostedDescriptor), [0n, 0n, 0n, 0n, 0xffff00ffff00fffcn, ALL, ALL, ALL]);
});

test('reserved bits of descriptors are those of vtd.md 5', t => {
  t.deepEqual(reserved(ContextCacheDescriptor), [0xfffc00000000f1c0n, ALL, ALL, ALL]);
  t.deepEqual(reserved(IotlbDescriptor), [0xffffffff0000f100n, 0xf80n, ALL, ALL]);
  t.deepEqual(reserved(PasidIotlbDescriptor), [0xfff000000000f1c0n, 0xf80n, ALL, ALL]);
  // PFSID is a field here; without ECAP.DIT the unit reserves it.
  t.deepEqual(reserved(DeviceTlbDescriptor), [0x000f0000ffe001f0n, 0xffen, ALL, ALL]);
  t.deepEqual(reserved(PasidDeviceTlbDescriptor), [0n, 0x7fen, ALL, ALL]);
  t.deepEqual(reserved(InterruptEntryCacheDescriptor), [0xffff000007fff1e0n, ALL, ALL, ALL]);
  // PD is a field here; without ECAP.PDS the unit reserves it.
  t.deepEqual(reserved(WaitDescriptor), [0xfffff100n, 3n, ALL, ALL]);
  t.deepEqual(reserved(PasidCacheDescriptor), [0xfff000000000f1c0n, ALL, ALL, ALL]);
  t.deepEqual(reserved(PageGroupResponseDescriptor), [0xfff00000000001e0n, 0xfffffffffffff003n, ALL, ALL]);
});

test('reserved bits of tables are those of vtd.md 3', t => {
  t.deepEqual(reserved(RootEntry), [0xffen, ALL]);
  t.deepEqual(reserved(ScalableRootEntry), [0xffen, 0xffen]);
  t.deepEqual(reserved(ContextEntry), [0xff0n, 0xffffffffff000080n]);
  t.deepEqual(reserved(ScalableContextEntry), [0x1e0n, 0xffffffffffe00000n, ALL, ALL]);
  t.deepEqual(reserved(PasidEntry), [0xc20n, 0x7f0000n, 0xf00n, ALL, ALL, ALL, ALL, ALL]);
});

test('fault reasons: codes, names and which of them FPD suppresses (vtd.md 4.8)', t => {
  const unqualified = [0x01, 0x08, 0x09, 0x0a, 0x20, 0x21, 0x23, 0x25, 0x29, 0x30, 0x31, 0x32, 0x33, 0x38, 0x39, 0x3a];
  unqualified.push(0x40, 0x50, 0x58);
  for (const code of Object.values(Fault)) {
    t.is(QUALIFIED[code], code === 0 || unqualified.includes(code) ? 0 : 1, faultName(code));
  }
  t.is(Object.values(Fault).length, 75 + 1);
  t.is(faultName(0x71), 'SFS.2 (0x71: first-stage entry not present)');
  t.is(faultName(0xee), 'reason 0xee');
});
