/** Random invalidation descriptors: most name what is there, some are wrong. */
import type { Random } from '@remora/bits';
import {
  ContextCacheDescriptor,
  DescriptorType,
  DeviceTlbDescriptor,
  InterruptEntryCacheDescriptor,
  IotlbDescriptor,
  PasidCacheDescriptor,
  PasidDeviceTlbDescriptor,
  PasidIotlbDescriptor,
  WaitDescriptor,
} from '@hw/intel-iommu/spec';
import { descriptorWords, type DiffConfig, scalable } from './configs.js';
import { type DeviceName, DEVICES, DOMAIN, OTHER_DOMAIN, requesterOf, STATUS_PAGE, TARGET_PAGES } from './layout.js';
import { FIRST_LEAF, type Tables } from './tables.js';

const PAGE = 0x1000;
const COMPLETION_INTERRUPT = 0x10;
const STATUS_WRITE = 0x20;
const FENCE = 0x40;
/** Bits of the address mask beyond 15. */
const LARGE_MASKS = 0x30;

/** Of any type; some are wrong. */
export function descriptor(config: DiffConfig, random: Random): number[] {
  const words = cut(config, anyType(config, random));
  // QEMU 10.0 does not check those for the PASID cache, nor the address mask of those with a PASID; 10.2, which the profile follows, does.
  if (random.below(12) === 0) {
    // A wait does not write its status over tables.
    const word = random.below(typeOf(words[0]!) === DescriptorType.WAIT ? 2 : words.length);
    const turned = (words[word]! ^ (1 << random.below(32))) >>> 0;
    const kept = [words[0]!, word === 0 ? turned : words[0]!].some(
      first => typeOf(first) === DescriptorType.PASID_CACHE,
    );
    if (!kept) words[word] = turned;
    if (typeOf(words[0]!) === DescriptorType.PASID_IOTLB) words[2]! &= ~LARGE_MASKS;
  }
  if (typeOf(words[0]!) === DescriptorType.WAIT) {
    // With both a status write and an interrupt QEMU 10.0 aborts; with a fence alone it stops, and 10.2 does not.
    if ((words[0]! & STATUS_WRITE) !== 0) words[0]! &= ~COMPLETION_INTERRUPT;
    else if ((words[0]! & COMPLETION_INTERRUPT) === 0) words[0]! &= ~FENCE;
  }
  return words.map(word => word >>> 0);
}

/** With the bits above the first four where they stand: other types than ours. */
function typeOf(word: number): number {
  return word & 0xe0f;
}

function anyType(config: DiffConfig, random: Random): Int32Array {
  const did = random.below(5) === 0 ? random.below(4) : [DOMAIN, OTHER_DOMAIN][random.below(2)]!;
  const names = Object.keys(DEVICES) as DeviceName[];
  const sid = random.below(4) === 0 ? random.below(256) : requesterOf(names[random.below(names.length)]!);
  const pasid = random.below(4) === 0 ? random.below(64) : 0;
  // Those with a PASID are errors in a narrow queue, and of those there is one now and then.
  switch (random.below(scalable(config) || random.below(10) === 0 ? 9 : 6)) {
    case 0:
      return ContextCacheDescriptor.encode({
        type: DescriptorType.CONTEXT_CACHE,
        g: 1 + random.below(3),
        did,
        sid,
        fm: random.below(4),
      });
    case 1:
      return iotlb(did, FIRST_LEAF + random.below(TARGET_PAGES), random);
    case 2:
      return InterruptEntryCacheDescriptor.encode({
        type: DescriptorType.INTERRUPT_ENTRY_CACHE,
        g: random.below(2),
        iidx: random.below(0x1_0000),
        im: random.below(4),
      });
    case 3:
    case 4: {
      const interrupt = random.below(3) === 0;
      return WaitDescriptor.encode({
        type: DescriptorType.WAIT,
        sw: interrupt ? 0 : 1,
        fn: random.below(2),
        if: interrupt ? 1 : 0,
        statusData: random.next(),
        statusAddressLow: STATUS_PAGE / 4,
      });
    }
    case 5:
      return DeviceTlbDescriptor.encode({ type: DescriptorType.DEVICE_TLB, sid, s: random.below(2), addr: FIRST_LEAF });
    case 6:
      return PasidCacheDescriptor.encode({
        type: DescriptorType.PASID_CACHE,
        g: [0, 1, 3][random.below(3)]!,
        did,
        pasid,
      });
    case 7:
      return pasidIotlb(did, pasid, FIRST_LEAF + random.below(TARGET_PAGES), random);
    default:
      return PasidDeviceTlbDescriptor.encode({
        type: DescriptorType.PASID_DEVICE_TLB,
        sid,
        pasid,
        g: random.below(2),
        s: random.below(2),
        addr: FIRST_LEAF,
      });
  }
}

/** One that is about a page that has changed: it hits mostly, and sometimes just misses. */
export function pageInvalidation(config: DiffConfig, tables: Tables, iova: number, random: Random): number[] {
  const did = random.below(4) === 0 ? OTHER_DOMAIN : DOMAIN;
  const page = Math.floor(iova / PAGE) + (random.below(4) === 0 ? random.below(5) - 2 : 0);
  const byPasid = scalable(config) && random.below(tables.mode === 'first' ? 2 : 5) === 0;
  return cut(config, byPasid ? pasidIotlb(did, 0, page, random) : iotlb(did, page, random));
}

function iotlb(did: number, page: number, random: Random): Int32Array {
  const g = 1 + random.below(3);
  return IotlbDescriptor.encode({
    type: DescriptorType.IOTLB,
    g,
    did,
    dr: random.below(2),
    dw: random.below(2),
    ...(g === 3 ? range(page, random) : {}),
  });
}

function pasidIotlb(did: number, pasid: number, page: number, random: Random): Int32Array {
  const paged = random.below(2) === 0;
  return PasidIotlbDescriptor.encode({
    type: DescriptorType.PASID_IOTLB,
    g: paged ? 3 : 2,
    did,
    pasid,
    ...(paged ? range(page, random) : {}),
  });
}

function range(addr: number, random: Random): { am: number; ih: number; addr: number } {
  return { am: random.below(2) === 0 ? random.below(12) : 0, ih: random.below(2), addr };
}

/** One that changes nothing that programs see. */
export function harmless(config: DiffConfig): number[] {
  return cut(config, InterruptEntryCacheDescriptor.encode({ type: DescriptorType.INTERRUPT_ENTRY_CACHE }));
}

/** As many words as a descriptor has there. */
export function cut(config: DiffConfig, words: Int32Array): number[] {
  return Array.from(words, word => word >>> 0).slice(0, descriptorWords(config));
}
