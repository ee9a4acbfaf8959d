import { flush, hit, invalidatePages } from './iotlb.js';
import type { MakeKernel } from './kernel.js';
import { assemble, descriptors } from './machine.js';
import { servedDma } from './served-dma.js';
import { walk } from './translate.js';

/** What a worker can run, by name. */
export const KERNELS: Readonly<Record<string, MakeKernel>> = {
  walk: walk(false, true),
  'nested-walk': walk(true, true),
  'cached-walk': walk(false, false),
  'cached-nested-walk': walk(true, false),
  hit,
  'invalidate-2^0': invalidatePages(0),
  'invalidate-2^9': invalidatePages(9),
  'invalidate-2^10': invalidatePages(10),
  'invalidate-2^18': invalidatePages(18),
  'flush-domain': flush('domain', false),
  'flush-pasid': flush('pasid', false),
  'flush-global': flush('global', false),
  'refill-domain': flush('domain', true),
  'refill-pasid': flush('pasid', true),
  'refill-global': flush('global', true),
  descriptors,
  assemble,
  'served-dma-untranslated': servedDma('untranslated'),
  'served-dma-held': servedDma('held'),
  'served-dma-walked': servedDma('walked'),
};
