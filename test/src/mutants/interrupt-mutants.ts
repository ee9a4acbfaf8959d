/** Ways to get interrupt remapping wrong: see mutants.ts. */
import { DEVICE, mutant, unit, type Mutant } from './mutants.js';

const REMAPPING = `${DEVICE}interrupt-remapping.js`;

export const INTERRUPT_MUTANTS: readonly Mutant[] = [
  mutant(
    'an index beyond the interrupt table is looked up all the same',
    REMAPPING,
    'if (index >= this.#state.interruptTableEntries)',
    'if (false)',
    unit('vtd/interrupts', '1.11: IRTA*'),
  ),
  mutant(
    'whoever asks gets the interrupt',
    REMAPPING,
    'if (!this.#isVerified(requesterId))',
    'if (false)',
    unit('vtd/interrupts', '8.3 step 7: SVT 2*'),
  ),
  mutant(
    'SQ ignores no bit of the source',
    REMAPPING,
    'SOURCE_MASKS[sq.get(entry, 0)]',
    'SOURCE_MASKS[0]',
    unit('vtd/interrupts', '8.3 step 7: source verification*'),
  ),
  mutant(
    'compatibility format passes in extended mode',
    REMAPPING,
    'return this.#state.compatibilityFormat && !this.#state.extendedInterruptMode;',
    'return this.#state.compatibilityFormat;',
    unit('vtd/interrupts', '8.3 step 1*'),
  ),
  mutant(
    'destinations have eight bits in extended mode, too',
    REMAPPING,
    'out.hi = destination & ~0xff;',
    'out.hi = 0;',
    unit('vtd/interrupts', '8.2: a remapped entry bit by bit, EIME = 1'),
  ),
  mutant(
    'nobody learns which interrupt was blocked',
    REMAPPING,
    'const information = this.#index << 16;',
    'const information = 0;',
    unit('vtd/interrupts', '8.1: FI*'),
  ),
  mutant(
    'a posted interrupt notifies again and again',
    REMAPPING,
    'const notifies = on.get(descriptor, 0) === 0 && (urgent',
    'const notifies = (urgent',
    unit('interrupt-posting', 'the first one notifies*'),
  ),
  mutant(
    'an invalidation of several interrupt entries takes one',
    `${DEVICE}interrupt-entry-cache.js`,
    'if (this.#tags[slot] >>> mask === index >>> mask)',
    'if (this.#tags[slot] === index)',
    unit('interrupt-cache', 'index-selective*'),
  ),
];
