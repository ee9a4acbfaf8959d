/** Ways to get shadow mapping wrong, which hosts find out about: see mutants.ts. */
import type { Judge } from './judges.js';
import { DEVICE, mutant, type Mutant } from './mutants.js';

const SHADOW = `${DEVICE}shadow/`;

const hosts = (file: string, match: string): Judge => ({ tests: `test/dist/shadow/${file}.test.js`, match });

export const SHADOW_MUTANTS: readonly Mutant[] = [
  mutant(
    'a host maps what the tables above do not grant',
    `${SHADOW}second-stage-ranges.js`,
    'const left = granted & low;',
    'const left = low & 3;',
    hosts('ranges', 'permissions of the levels above*'),
  ),
  mutant(
    'the interrupt range is mapped at the host',
    `${SHADOW}second-stage-ranges.js`,
    'this.#add(from, Math.min(to, Math.max(from, INTERRUPTS_START)), out, access);',
    'this.#add(from, to, out, access);',
    hosts('ranges', 'the interrupt range*'),
  ),
  mutant(
    'a page that is mapped elsewhere stays where it was at the host',
    `${SHADOW}difference.js`,
    '(wider !== undefined && includes(wider, range) ? kept : gone)',
    '(wider !== undefined ? kept : gone)',
    hosts('mapping', '*a page that is mapped elsewhere*'),
  ),
  mutant(
    'what a host refused is never tried again',
    `${SHADOW}function-shadow.js`,
    'this.#owedEnd = none ? end : Math.max(this.#owedEnd, end);',
    'this.#owedEnd = this.#owedStart;',
    hosts('failures', 'a guest that goes on*'),
  ),
];
