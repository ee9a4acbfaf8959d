/**
 * Random programs of a guest, against a page-by-page model: whatever was reported is what the tables said at that moment, nothing else changes,
 * and the host holds exactly that. The model looks tables up one page at a time, by the guest driver's own walk.
 */
import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { Errno } from '@remora/core';
import { VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '@remora/uapi';
import type { PageTable } from '@hw/intel-iommu/driver';
import { ShadowRig } from './shadow-rig.js';

/** Pages of IOVA that programs use: two tables of the last level, and a bit of what a large page covers. */
const WINDOW = 1100;
const BASE = 512 * 40;
/** Guest frames that are mapped: some of them behind the end of RAM. */
const FRAMES = 5000;
const RAM_FRAMES = 4096;
const DOMAINS = [7, 8] as const;

type Step =
  | {
      readonly do: 'map';
      readonly table: number;
      readonly at: number;
      readonly to: number;
      readonly pages: number;
      readonly access: number;
    }
  | { readonly do: 'large'; readonly table: number; readonly at: number; readonly to: number }
  | { readonly do: 'unmap'; readonly table: number; readonly at: number; readonly pages: number }
  | { readonly do: 'pages'; readonly domain: number; readonly at: number; readonly order: number }
  | { readonly do: 'domain'; readonly domain: number }
  | { readonly do: 'global' }
  | { readonly do: 'attach'; readonly table: number }
  | { readonly do: 'toggle' }
  | { readonly do: 'refuse'; readonly unmap: boolean; readonly nth: number; readonly errno: number };

const table = fc.constantFrom(0, 0, 0, 1);
const domain = table;
const at = fc.nat(WINDOW - 1);
const to = fc.oneof(fc.nat(64), fc.nat(FRAMES - 1));
const pages = fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 8 }) }, fc.integer({ min: 1, max: 600 }));
const changes: fc.Arbitrary<Step>[] = [
  fc.record({ do: fc.constant('map'), table, at, to, pages, access: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ do: fc.constant('large'), table, at: fc.nat(2), to: fc.nat(8) }),
  fc.record({ do: fc.constant('unmap'), table, at, pages }),
];
const reports: fc.Arbitrary<Step>[] = [
  fc.record({ do: fc.constant('pages'), domain, at, order: fc.nat(10) }),
  fc.record({ do: fc.constant('domain'), domain }),
  fc.record({ do: fc.constant('global') }),
];
const rare: fc.Arbitrary<Step>[] = [
  fc.record({ do: fc.constant('attach'), table }),
  fc.record({ do: fc.constant('toggle') }),
];
const refusal: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('refuse'),
  unmap: fc.boolean(),
  nth: fc.integer({ min: 1, max: 3 }),
  errno: fc.constantFrom(Errno.ENOMEM, Errno.EINVAL, Errno.EBUSY),
});

function program(...more: fc.Arbitrary<Step>[]): fc.Arbitrary<Step[]> {
  const weighted = (
    weight: number,
    list: readonly fc.Arbitrary<Step>[],
  ): { weight: number; arbitrary: fc.Arbitrary<Step> }[] => list.map(arbitrary => ({ weight, arbitrary }));
  const step = fc.oneof(...weighted(6, changes), ...weighted(4, reports), ...weighted(1, rare), ...weighted(2, more));
  return fc.array(step, { minLength: 30, maxLength: 70, size: 'max' });
}

/** A page's translation as one number; undefined if it has none. */
type Pages = Map<number, number>;

function code(frame: number, access: number): number {
  return frame * 4 + access;
}

class Run implements Disposable {
  readonly rig: ShadowRig;
  readonly #tables: readonly PageTable[];
  /** What was reported of the function's translations. */
  #model: Pages = new Map();
  #attached = 0;
  #on = true;
  /** Calls that changed something. */
  calls = 0;

  constructor(mode: 'legacy' | 'scalable') {
    this.rig = new ShadowRig({ mode });
    this.#tables = [this.rig.table(), this.rig.table()];
    assert.equal(this.rig.attach(this.#tables[0]!, DOMAINS[0]), 0);
  }

  step(step: Step): void {
    const { rig } = this;
    switch (step.do) {
      case 'map': {
        const { access } = step;
        const target = this.#tables[step.table]!;
        target.map(BASE + step.at, step.to, step.pages, access);
        break;
      }
      case 'large':
        this.#tables[step.table]!.map(BASE + step.at * 512, step.to * 512, 512, 3, 21);
        break;
      case 'unmap':
        this.#tables[step.table]!.unmap(BASE + step.at, step.pages);
        break;
      case 'pages': {
        const count = 2 ** step.order;
        const start = Math.floor((BASE + step.at) / count) * count;
        rig.flushPages(DOMAINS[step.domain]!, start, count);
        if (step.domain === this.#attached) this.#report(start, start + count);
        break;
      }
      case 'domain':
        rig.flushDomain(DOMAINS[step.domain]!);
        if (step.domain === this.#attached) this.#report();
        break;
      case 'global':
        rig.flushAll();
        this.#report();
        break;
      case 'attach':
        // A driver that is refused takes its entry back.
        while (rig.attach(this.#tables[step.table]!, DOMAINS[step.table]!) !== 0) this.recover();
        if (step.table !== this.#attached) {
          this.#attached = step.table;
          this.#report();
        } else if (rig.mode === 'legacy') {
          // The driver flushes the domain as well.
          this.#report();
        }
        break;
      case 'toggle':
        this.#on = !this.#on;
        if (this.#on) rig.guest.iommu.enableTranslation();
        else rig.guest.iommu.disableTranslation();
        this.#report();
        break;
      case 'refuse':
        rig.plan.arm({
          request: step.unmap ? VFIO_IOMMU_UNMAP_DMA : VFIO_IOMMU_MAP_DMA,
          nth: step.nth,
          result: -step.errno,
        });
    }
    this.calls += rig.take().length;
  }

  /** Brings the queue back where a refusal stopped it. */
  recover(): void {
    this.rig.guest.iommu.queue.recover();
  }

  /** Everything is reported, to a host that refuses nothing. */
  settle(): void {
    if (!this.#on) this.step({ do: 'toggle' });
    this.step({ do: 'global' });
  }

  check(): void {
    const held: Pages = new Map();
    for (const { iova, pages: count, to: first, access } of this.rig.held()!) {
      for (let page = 0; page < count; page++) held.set(iova + page, code(first + page, access));
    }
    const expected: Pages = this.#on ? this.#model : new Map();
    if (!this.#on) for (let frame = 0; frame < RAM_FRAMES; frame++) expected.set(frame, code(frame, 3));
    const ascending = (pagesOf: Pages): [number, number][] => [...pagesOf].sort(([a], [b]) => a - b);
    assert.deepEqual(ascending(held), ascending(expected));
  }

  [Symbol.dispose](): void {
    this.rig[Symbol.dispose]();
  }

  /** The function's translations of pages [start, end) are what its table says now. */
  #report(start = BASE, end = BASE + 2 * WINDOW): void {
    // While translation is off nothing is reported of a table that is not used: all of it is, when it is switched on.
    if (!this.#on) return;
    const current = this.#tables[this.#attached]!;
    for (let page = Math.max(start, BASE); page < Math.min(end, BASE + 2 * WINDOW); page++) {
      const { frame, access } = current.walk(page);
      if (frame >= 0 && frame < RAM_FRAMES) this.#model.set(page, code(frame, access));
      else this.#model.delete(page);
    }
  }
}

for (const mode of ['legacy', 'scalable'] as const) {
  test(`${mode}: after every step the host holds what was reported`, t => {
    let calls = 0;
    fc.assert(
      fc.property(program(), steps => {
        const run = new Run(mode);
        try {
          for (const step of steps) {
            run.step(step);
            run.check();
          }
          calls += run.calls;
        } finally {
          run[Symbol.dispose]();
        }
      }),
      { numRuns: 40, seed: 20 },
    );
    t.true(calls > 300, `${calls} calls`);
  });
}

test('a host that refuses now and then holds all that was reported as soon as it refuses no more', t => {
  let calls = 0;
  fc.assert(
    fc.property(program(refusal, refusal), steps => {
      const run = new Run('legacy');
      try {
        for (const step of steps) {
          run.step(step);
          run.recover();
        }
        // Faults that are armed still strike here; a second report finds none.
        for (let round = 0; round < 40; round++) {
          run.settle();
          run.recover();
        }
        run.check();
        calls += run.calls;
      } finally {
        run[Symbol.dispose]();
      }
    }),
    { numRuns: 40, seed: 20 },
  );
  t.true(calls > 300, `${calls} calls`);
});
