/** Ways to get QEMU's departures wrong: see mutants.ts. */
import { DEVICE, mutant, unit, type Mutant } from './mutants.js';

const BEHAVIOUR = `${DEVICE}behaviour.js`;

export const COMPATIBLE_MUTANTS: readonly Mutant[] = [
  mutant(
    'the compatible profile posts interrupts',
    BEHAVIOUR,
    'postedAsRemapped: true',
    'postedAsRemapped: false',
    unit('compat/departures', 'postedAsRemapped: *'),
  ),
  mutant(
    'the compatible profile keeps each fault of a source',
    BEHAVIOUR,
    'compressFaultsBySource: true',
    'compressFaultsBySource: false',
    unit('compat/departures', 'compressFaultsBySource: *'),
  ),
  mutant(
    'the compatible profile asks for snooping before it marks a page',
    BEHAVIOUR,
    'updateUnsnooped: true',
    'updateUnsnooped: false',
    unit('compat/departures', 'updateUnsnooped: *'),
  ),
];
