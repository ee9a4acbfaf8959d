/**
 * The device TLB next to a naive one: whatever is mapped, flushed and accessed in whatever order, an access goes where the page leads
 * now, or where it led when the translation was kept and nothing since has flushed it.
 */
import test from 'ava';
import { Access, NO_PASID } from '@remora/core';
import fc from 'fast-check';
import { type FakeMapping, OK, PAGE, tlbSetup } from './ats.test.helper.js';

const PASIDS = [NO_PASID, 0, 9];
const PAGES = 4;
/** Targets are pages of RAM, each with its number in its first byte. */
const TARGETS = 200;

const pasid = fc.constantFrom(...PASIDS);
const page = fc.nat(PAGES - 1);
const operation = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('read' as const), pasid, page }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('write' as const), pasid, page }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('map' as const),
      pasid,
      page,
      to: fc.integer({ min: 1, max: TARGETS }),
      access: fc.constantFrom(0, Access.READ, Access.READ_WRITE, Access.READ_WRITE),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('flush' as const),
      pasid,
      page,
      shift: fc.constantFrom(12, 13, 14, 64),
      global: fc.boolean(),
    }),
  },
);

interface Kept {
  readonly to: number;
  readonly access: number;
}

test('an access goes where its page leads, or led when it was kept and not flushed since', t => {
  const seen = { fresh: 0, stale: 0, refused: 0 };
  const property = fc.property(fc.array(operation, { minLength: 20, maxLength: 120, size: 'max' }), operations => {
    const { iommu, memory, read, write, flush } = tlbSetup({ entries: 16 });
    for (let target = 1; target <= TARGETS; target++) memory(target * PAGE, target);
    const mapped = new Map<string, FakeMapping & Kept>();
    /** What a device TLB of any size may still have. */
    const kept = new Map<string, Kept>();
    const key = (of: number, at: number): string => `${of}:${at}`;
    for (const each of operations) {
      const now = mapped.get(key(each.pasid, each.page));
      const old = kept.get(key(each.pasid, each.page));
      const address = each.page * PAGE;
      if (each.kind === 'map') {
        const mapping = { to: each.to * PAGE, access: each.access };
        iommu.map(each.pasid, address, mapping);
        mapped.set(key(each.pasid, each.page), mapping);
      } else if (each.kind === 'flush') {
        flush(each.pasid, address, each.shift, each.global && each.pasid !== NO_PASID);
        const span = Math.min(2 ** (each.shift - 12), PAGES);
        const first = Math.floor(each.page / span) * span;
        const gone = each.global && each.pasid !== NO_PASID ? PASIDS.slice(1) : [each.pasid];
        for (const of of gone) for (let at = first; at < first + span; at++) kept.delete(key(of, at));
      } else {
        const needed = each.kind === 'read' ? Access.READ : Access.WRITE;
        const asked = iommu.asked.length;
        const value = 0xee;
        const [result, byte] =
          each.kind === 'read' ? read(address, each.pasid) : [write(address, value, each.pasid), value];
        const may = (of: Kept | undefined): boolean => of !== undefined && (of.access & needed) === needed;
        const used = iommu.asked.length > asked ? now : old;
        if (iommu.asked.length === asked && !may(old)) return false;
        if (may(used) !== (result === OK)) return false;
        if (result === OK && each.kind === 'read' && byte !== used!.to / PAGE) return false;
        if (result === OK && each.kind === 'write') {
          if (memory(used!.to) !== value) return false;
          memory(used!.to, used!.to / PAGE);
        }
        if (iommu.asked.length > asked && now !== undefined && now.access !== 0)
          kept.set(key(each.pasid, each.page), now);
        seen[result === OK ? (used?.to === now?.to ? 'fresh' : 'stale') : 'refused']++;
      }
    }
    return true;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 300, seed: 7 }));
  for (const [what, count] of Object.entries(seen)) t.true(count > 100, `only ${count} accesses were ${what}`);
});
