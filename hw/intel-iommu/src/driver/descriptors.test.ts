import { bigOf } from '@remora/bits';
import test from 'ava';
import { Granularity, PasidCacheGranularity, PasidIotlbGranularity } from '../spec/index.js';
import {
  contextCacheDescriptor,
  deviceTlbDescriptor,
  interruptEntryCacheDescriptor,
  iotlbDescriptor,
  pageGroupResponseDescriptor,
  pasidCacheDescriptor,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  waitDescriptor,
} from './descriptors.js';

/** The expectations are the worked encodings of vtd.md section 14. */
const encodings: readonly [name: string, descriptor: Int32Array, low: bigint, high: bigint][] = [
  ['CC device, SID 0x00F8, DID 0', contextCacheDescriptor(Granularity.DEVICE, 0, 0xf8), 0x000000f800000031n, 0n],
  [
    'IOTLB page, DID 5, addr 0x12345000, AM 0, IH 1, DR+DW',
    iotlbDescriptor(Granularity.PAGE, 5, { reads: true, writes: true }, range(0, 0x12345000, 0, true)),
    0x00000000000500f2n,
    0x0000000012345040n,
  ],
  ['PIOTLB all in PASID 0, DID 1', pasidIotlbDescriptor(PasidIotlbGranularity.PASID, 1, 0), 0x0000000000010026n, 0n],
  ['PASID-cache PASID 5, DID 1', pasidCacheDescriptor(PasidCacheGranularity.PASID, 1, 5), 0x0000000500010017n, 0n],
  [
    'device-TLB, SID 0x0100, everything',
    deviceTlbDescriptor(0x100, 0, 0, 64),
    0x0000010000000003n,
    0x7ffffffffffff001n,
  ],
  [
    'PASID device-TLB, SID 0x0100, PASID 5, everything',
    pasidDeviceTlbDescriptor(0x100, 5, 0, 0, 64),
    0x0000000501000008n,
    0x7ffffffffffff800n,
  ],
  ['IEC global', interruptEntryCacheDescriptor(), 0x4n, 0n],
  ['IEC index 5', interruptEntryCacheDescriptor(5), 0x0000000500000014n, 0n],
  [
    'wait, SW, data 2, address 0x1000',
    waitDescriptor({ statusHi: 0, statusLo: 0x1000, statusData: 2 }),
    0x0000000200000025n,
    0x1000n,
  ],
  [
    'page group response success, RID 0x0100, PASID 5, PRGI 3',
    pageGroupResponseDescriptor({ requesterId: 0x100, pasid: 5, code: 0, group: 3 }),
    0x0000000501000019n,
    0x18n,
  ],
  // Beyond section 14: sizes and the flags that it leaves out.
  ['device-TLB, one page', deviceTlbDescriptor(8, 0x1, 0x2000_3abc, 12), 0x0000000800000003n, 0x120003000n],
  ['device-TLB, 8 KiB', deviceTlbDescriptor(8, 0, 0x3000, 13), 0x0000000800000003n, 0x2001n],
  ['device-TLB, 2 MiB', deviceTlbDescriptor(8, 0, 0x4000_0000, 21), 0x0000000800000003n, 0x400ff001n],
  [
    'PASID-IOTLB pages, AM 9, far up',
    pasidIotlbDescriptor(PasidIotlbGranularity.PAGE, 7, 0xabcde, range(0x7fff, 0xff20_0000, 9, false)),
    0x000abcde00070036n,
    0x7fffff200009n,
  ],
  ['PASID device-TLB, all PASIDs', pasidDeviceTlbDescriptor(8, 0, 0, 0, 64, true), 0x80008n, 0x7ffffffffffff801n],
  [
    'wait with interrupt, fence and drain',
    waitDescriptor({ interrupt: true, fence: true, drainPageRequests: true }),
    0xd5n,
    0n,
  ],
];

function range(
  hi: number,
  lo: number,
  addressMask: number,
  leaf: boolean,
): { hi: number; lo: number; addressMask: number; leaf: boolean } {
  return { hi, lo, addressMask, leaf };
}

for (const [name, descriptor, low, high] of encodings) {
  test(name, t => {
    t.is(bigOf(descriptor[1]!, descriptor[0]!), low);
    t.is(bigOf(descriptor[3]!, descriptor[2]!), high);
    t.deepEqual(descriptor.subarray(4), new Int32Array(4));
  });
}
