import { flush, hit, invalidatePages } from './iotlb.js';
import type { MakeKernel } from './kernel.js';
import { assemble, descriptors } from './machine.js';
import { nestedWalk, walk } from './translate.js';

/** What a worker can run, by name. */
export const KERNELS: Readonly<Record<string, MakeKernel>> = {
  walk,
  'nested-walk': nestedWalk,
  hit,
  'invalidate-1': invalidatePages(0),
  'invalidate-512': invalidatePages(9),
  'flush-domain': flush('domain', false),
  'flush-pasid': flush('pasid', false),
  'flush-global': flush('global', false),
  'refill-domain': flush('domain', true),
  'refill-pasid': flush('pasid', true),
  'refill-global': flush('global', true),
  descriptors,
  assemble,
};
