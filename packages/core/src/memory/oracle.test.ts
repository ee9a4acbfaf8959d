import test from 'ava';
import fc from 'fast-check';
import { AddressSpace } from './address-space.js';
import type { Section } from './flat-view.js';
import { MemTx } from './memtx.js';
import { Region } from './region.js';
import { memoryBatch } from './topology.js';

const SPACE = 256;

/** How a random region is made; numbers are reduced to what fits. */
interface Plan {
  readonly kind: 'leaf' | 'container' | 'alias';
  readonly size: number;
  readonly parent: number;
  readonly offset: number;
  readonly priority: number;
  readonly target: number;
  readonly enabled: boolean;
}

interface Change {
  readonly region: number;
  readonly what: 'toggle' | 'move';
  readonly offset: number;
  readonly priority: number;
}

const plan: fc.Arbitrary<Plan> = fc.record({
  kind: fc.constantFrom('leaf', 'leaf', 'container', 'alias'),
  size: fc.integer({ min: 1, max: 160 }),
  parent: fc.nat(20),
  offset: fc.nat(200),
  priority: fc.integer({ min: -2, max: 2 }),
  target: fc.nat(20),
  enabled: fc.boolean(),
});
const change: fc.Arbitrary<Change> = fc.record({
  region: fc.nat(20),
  what: fc.constantFrom('toggle', 'move'),
  offset: fc.nat(200),
  priority: fc.integer({ min: -2, max: 2 }),
});

const valueAt = (id: number, offset: number): number => (id * 37 + offset) & 0xff;

function leaf(id: number, size: number): Region {
  const read = (offset: number): number => valueAt(id, offset);
  return Region.mmio(`${id}`, size, { impl: { min: 1, max: 1 }, read, write: () => undefined });
}

/** A root and the regions that were made below it. What cannot be placed (it would contain itself) stays outside. */
function build(plans: readonly Plan[]): { root: Region; regions: Region[] } {
  const root = Region.container('root', SPACE);
  const regions: Region[] = [root];
  for (const [index, { kind, size, parent, offset, priority, target, enabled }] of plans.entries()) {
    const shown = regions[target % regions.length]!;
    const start = offset % shown.size;
    const region =
      kind === 'leaf'
        ? leaf(index, size)
        : kind === 'container'
          ? Region.container(`c${index}`, size)
          : Region.alias(`a${index}`, shown, start, Math.min(size, shown.size - start));
    region.enabled = enabled || index % 3 === 0;
    regions.push(region);
    const containers = regions.filter(({ kind: of }) => of === 'container');
    tryToPlace(containers[parent % containers.length]!, offset, region, priority);
  }
  return { root, regions };
}

function tryToPlace(container: Region, offset: number, region: Region, priority: number): void {
  try {
    container.add(offset, region, priority);
  } catch (failure) {
    if (!(failure instanceof Error && /contains|already/.test(failure.message))) throw failure;
  }
}

/** The leaf at `offset` of `region`, found without any flattening. */
function oracle(region: Region, offset: number): { region: Region; offset: number } | undefined {
  if (!region.enabled || offset < 0 || offset >= region.size) return undefined;
  if (region.target !== undefined) return oracle(region.target, region.targetOffset + offset);
  if (region.kind !== 'container') return { region, offset };
  for (const child of region.children) {
    const found = oracle(child.region, offset - child.offset);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Every address answers as the oracle says; the sections ascend and are as long as they can be. */
function agrees(t: { deepEqual(a: unknown, b: unknown): boolean }, root: Region, space: AddressSpace): void {
  const expected: (number | undefined)[] = [];
  const answered: (number | undefined)[] = [];
  const one = new Uint8Array(1);
  for (let address = 0; address < SPACE + 16; address++) {
    const found = address < SPACE ? oracle(root, address) : undefined;
    expected.push(found === undefined ? undefined : valueAt(Number(found.region.name), found.offset));
    answered.push(space.read(0, address, one) === MemTx.OK ? one[0] : undefined);
  }
  t.deepEqual(answered, expected);
  const sections = space.sections();
  const bad = sections.filter((section, index) => {
    const next = sections[index + 1];
    if (next === undefined) return false;
    const end = section.start + section.size;
    const joined =
      end === next.start && section.region === next.region && section.offset + section.size === next.offset;
    return section.size <= 0 || end > next.start || joined;
  });
  t.deepEqual(bad, []);
}

test('random region trees answer as a naive look-up does', t => {
  fc.assert(
    fc.property(fc.array(plan, { minLength: 1, maxLength: 20 }), plans => {
      const { root } = build(plans);
      agrees(t, root, new AddressSpace('as', root));
    }),
    { numRuns: 150, seed: 1 },
  );
});

test('random changes keep map, look-up and listeners in agreement', t => {
  fc.assert(
    fc.property(
      fc.array(plan, { minLength: 3, maxLength: 14 }),
      fc.array(fc.array(change, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 6 }),
      (plans, batches) => {
        const { root, regions } = build(plans);
        const space = new AddressSpace('as', root);
        const known = new Set<Section>();
        let commits = 0;
        space.listen({
          regionAdd: section => t.false(known.has(section)) && known.add(section),
          regionRemove: section => t.true(known.delete(section)),
          commit: () => commits++,
        });
        for (const batch of batches) {
          const before = commits;
          memoryBatch(() => {
            for (const { region, what, offset, priority } of batch) {
              const chosen = regions[region % regions.length]!;
              if (what === 'toggle') chosen.enabled = !chosen.enabled;
              else if (chosen.container !== undefined) {
                const { container } = chosen;
                container.remove(chosen);
                container.add(offset, chosen, priority);
              }
            }
          });
          t.true(commits <= before + 1);
          t.deepEqual(
            [...known].sort((a, b) => a.start - b.start),
            [...space.sections()],
          );
          agrees(t, root, space);
        }
      },
    ),
    { numRuns: 80, seed: 1 },
  );
});
