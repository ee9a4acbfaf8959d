/** What an operating system does wrong or right: a table changes, a transfer before, an invalidation that hits or just misses, one after. */
import type { Random } from '@remora/bits';
import { ContextCacheDescriptor, DescriptorType, Granularity, IotlbDescriptor } from '@hw/intel-iommu/spec';
import type { DiffConfig } from './configs.js';
import { cut, pageInvalidation } from './descriptors.js';
import { PAGING, requesterOf } from './layout.js';
import type { Operation } from './program.js';
import { damaged, type Entry, FIRST_LEAF, LARGE_LEAF, LARGE_PAGE, redirected } from './tables.js';
import { address, type Surroundings, transfers } from './transfers.js';

const PAGE = 0x1000;

/** Of a paging entry. What was cached stays in force until an invalidation hits it. */
export function pageChange(given: Surroundings): Operation[] {
  const { config, tables, random } = given;
  const which = random.below(tables.leaves.length);
  const leaf = tables.leaves[which]!;
  const inner = random.below(5) === 0 ? tables.inner[random.below(tables.inner.length)] : undefined;
  const original = inner ?? leaf;
  const base = which === tables.leaves.length - 1 ? LARGE_LEAF * LARGE_PAGE : (FIRST_LEAF + which) * PAGE;
  const iova = tables.pass ? address(given) : base + random.below((PAGE - 8) / 4) * 4;
  const change =
    inner === undefined && random.below(3) === 0 ? redirected(leaf, random) : damaged(tables, original, random);
  return [
    ...(random.below(4) === 0 ? [] : transfers(given, iova)),
    change,
    ...(random.below(6) === 0
      ? []
      : [{ kind: 'descriptor', words: pageInvalidation(config, tables, iova, random) } as const]),
    ...transfers(given, iova),
    ...restored(original, config, random),
  ];
}

/** Of a root, context or PASID entry, which is made known mostly. */
export function contextChange(given: Surroundings): Operation[] {
  const { config, tables, random } = given;
  const original = tables.above[random.below(tables.above.length)]!;
  const iova = address(given);
  return [
    ...(random.below(3) === 0 ? [] : transfers(given, iova)),
    { ...damaged(tables, original, random), ...(random.below(3) === 0 ? {} : { then: contextFlush(given) }) },
    ...transfers(given, iova),
    ...restored(original, config, random),
  ];
}

/** The entry as it was, made known to all. Mostly, so that later steps find something that translates. */
function restored(original: Entry, config: DiffConfig, random: Random): Operation[] {
  if (random.below(7) === 0) return [];
  return [{ ...original, then: original.at >= PAGING ? [iotlb(config)] : [context(config), iotlb(config)] }];
}

/** Descriptors that reach every device whose tables changed, one way or the other; then the IOTLB, mostly. */
function contextFlush({ config, tables, devices, random }: Surroundings): number[][] {
  const choice = random.below(4);
  const flushes =
    choice === 0
      ? [
          ...devices.map(name =>
            context(config, { g: Granularity.DEVICE, sid: requesterOf(name), did: tables.domains.get(name)! }),
          ),
        ]
      : choice === 1
        ? [...new Set(tables.domains.values())].map(did => context(config, { g: Granularity.DOMAIN, did }))
        : [context(config)];
  return random.below(5) === 0 ? flushes : [...flushes, iotlb(config)];
}

function context(
  config: DiffConfig,
  fields: { g: number; sid?: number; did?: number } = { g: Granularity.GLOBAL },
): number[] {
  return cut(config, ContextCacheDescriptor.encode({ type: DescriptorType.CONTEXT_CACHE, ...fields }));
}

function iotlb(config: DiffConfig): number[] {
  return cut(config, IotlbDescriptor.encode({ type: DescriptorType.IOTLB, g: Granularity.GLOBAL }));
}
