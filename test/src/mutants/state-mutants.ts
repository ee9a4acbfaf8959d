/** Ways to lose a part of the state between saving and restoring a machine: see mutants.ts. */
import type { Judge } from './judges.js';
import { DEVICE, mutant, type Mutant } from './mutants.js';

/** Machines that are saved and restored, and go on as without it. */
const scenario = (match: string): Judge => ({
  tests: 'test/dist/state/agreement.test.js',
  match: `with and without save and restore: ${match}`,
});

export const STATE_MUTANTS: readonly Mutant[] = [
  mutant(
    'a restored queue is elsewhere',
    `${DEVICE}invalidation-queue.js`,
    "this.#baseLo = from.integer('base-lo', WORD);",
    "from.integer('base-lo', WORD);",
    scenario('legacy, an engine*'),
  ),
  mutant(
    'a restored unit has forgotten its root table',
    `${DEVICE}state.js`,
    "this.rootLo = from.integer('root-lo', WORD);",
    "from.integer('root-lo', WORD);",
    scenario('legacy, an engine*'),
  ),
  mutant(
    'a restored unit has forgotten what it cached',
    `${DEVICE}unit.js`,
    "loadCaches(from.child('caches'), this.#caches);",
    "from.child('caches');",
    scenario('legacy, an engine*'),
  ),
  mutant(
    'a restored device TLB has lost its PASIDs',
    'packages/pci/dist/device-tlb.js',
    "const pasid = each.integer('pasid', { min: NO_PASID, max: MAX_PASID });",
    "each.integer('pasid', { min: NO_PASID, max: MAX_PASID }); const pasid = NO_PASID;",
    { tests: 'packages/pci/dist/device-tlb-state.test.js', match: 'translations are there again*' },
  ),
];
