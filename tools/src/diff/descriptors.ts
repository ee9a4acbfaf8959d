/** Random invalidation descriptors: most name what is there, some are wrong. */
import type { Random } from '@remora/bits';
import {
  ContextCacheDescriptor,
  DescriptorType,
  InterruptEntryCacheDescriptor,
  IotlbDescriptor,
  PasidCacheDescriptor,
  PasidIotlbDescriptor,
  WaitDescriptor,
} from '@hw/intel-iommu/spec';
import { type DiffConfig, scalable } from './configs.js';
import { DOMAIN, REQUESTER, STATUS_PAGE } from './layout.js';

const NARROW_WORDS = 4;
const COMPLETION_INTERRUPT = 0x10;
const STATUS_WRITE = 0x20;

export function descriptor(config: DiffConfig, random: Random): number[] {
  const bytes = scalable(config) ? 32 : 16;
  const words = Array.from(anyType(config, random), word => word >>> 0).slice(0, bytes / 4);
  // QEMU 10.0 checks neither the upper half of wide descriptors nor those for the PASID cache; 10.2, which the profile follows, does.
  if (random.below(12) === 0) {
    // A wait does not write its status over tables.
    const word = random.below(typeOf(words[0]!) === DescriptorType.WAIT ? 2 : NARROW_WORDS);
    const turned = (words[word]! ^ (1 << random.below(32))) >>> 0;
    const kept = [words[0]!, word === 0 ? turned : words[0]!].some(
      first => typeOf(first) === DescriptorType.PASID_CACHE,
    );
    if (!kept) words[word] = turned;
  }
  // A wait with both a status write and an interrupt aborts QEMU 10.0.
  if (typeOf(words[0]!) === DescriptorType.WAIT && (words[0]! & STATUS_WRITE) !== 0) words[0]! &= ~COMPLETION_INTERRUPT;
  return words.map(word => word >>> 0);
}

/** With the bits above the first four where they stand: other types than ours. */
function typeOf(word: number): number {
  return word & 0xe0f;
}

function anyType(config: DiffConfig, random: Random): Int32Array {
  const did = random.below(5) === 0 ? random.below(4) : DOMAIN;
  const g = 1 + random.below(3);
  const range = {
    am: random.below(4) === 0 ? random.below(12) : 0,
    ih: random.below(2),
    addr: 0x1f0 + random.below(4),
  };
  switch (random.below(scalable(config) ? 6 : 4)) {
    case 0:
      return ContextCacheDescriptor.encode({
        type: DescriptorType.CONTEXT_CACHE,
        g,
        did,
        sid: random.below(4) === 0 ? random.below(256) : REQUESTER,
        fm: random.below(4),
      });
    case 1:
      return IotlbDescriptor.encode({
        type: DescriptorType.IOTLB,
        g,
        did,
        dr: random.below(2),
        dw: random.below(2),
        ...(g === 3 ? range : {}),
      });
    case 2:
      return InterruptEntryCacheDescriptor.encode({
        type: DescriptorType.INTERRUPT_ENTRY_CACHE,
        g: random.below(2),
        iidx: random.below(0x1_0000),
        im: random.below(4),
      });
    case 3: {
      // A fence alone is an error in QEMU 10.0, and none in 10.2.
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
    case 4:
      return PasidCacheDescriptor.encode({
        type: DescriptorType.PASID_CACHE,
        g: [0, 1, 3][random.below(3)]!,
        did,
        pasid: random.below(4) === 0 ? random.below(64) : 0,
      });
    default: {
      const paged = random.below(2) === 0;
      return PasidIotlbDescriptor.encode({
        type: DescriptorType.PASID_IOTLB,
        g: paged ? 3 : 2,
        did,
        pasid: random.below(4) === 0 ? random.below(64) : 0,
        ...(paged ? range : {}),
      });
    }
  }
}
