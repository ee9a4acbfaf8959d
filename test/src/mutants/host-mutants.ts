/** Ways to lose what a host refuses or reports, which the tests of propagation find out: see mutants.ts. */
import type { Judge } from './judges.js';
import { DEVICE, mutant, type Mutant } from './mutants.js';

const PROPAGATION = `${DEVICE}propagation/`;

const test = (file: string, match: string): Judge => ({ tests: `${PROPAGATION}${file}.test.js`, match });

export const HOST_MUTANTS: readonly Mutant[] = [
  mutant(
    'a wait overtakes the flushes before it',
    `${DEVICE}invalidation-queue.js`,
    'if ((!collects || this.#collected === MOST_COLLECTED) && !this.#settle())',
    'if (this.#collected === MOST_COLLECTED && !this.#settle())',
    test('batches', 'what lies between two waits*'),
  ),
  mutant(
    'the head stays behind a flush that was refused',
    `${DEVICE}invalidation-queue.js`,
    'this.#registers.set(Reg.IQH, (this.#firstCollected + refused * this.#descriptorBytes) % this.#bytes);',
    '',
    test('batches', 'entry 1 of 5*'),
  ),
  mutant(
    'a flush that one host refused is not tried at the others',
    `${PROPAGATION}stage1-flush.js`,
    'if (this.#refused !== NONE && descriptor !== this.#refused)',
    'if (this.#refused !== NONE)',
    test('batches', 'several hosts*'),
  ),
  mutant(
    'under Q15 a refusal drops the rest of the batch',
    `${PROPAGATION}stage1-flush.js`,
    'batch.drop(accepted + 1);',
    'batch.drop(batch.length);',
    test('batches', 'Q15*'),
  ),
  mutant(
    'a fault of the host ignores FPD',
    `${DEVICE}host-faults.js`,
    'this.#faults.report(told, fpd,',
    'this.#faults.report(told, false,',
    test('host-faults', 'FPD of the PASID entry*'),
  ),
  mutant(
    'the guest reads reasons of the host’s own tables',
    `${DEVICE}host-faults.js`,
    'GUEST_REASONS[reason] ?? KEPT',
    'GUEST_REASONS[reason] ?? reason',
    test('host-faults', 'every reason*'),
  ),
  mutant(
    'a guest is asked for pages that has not enabled page requests',
    `${PROPAGATION}host-reports.js`,
    'asks && priOf(hosted)?.enabled === true',
    'asks',
    test('host-reports', 'refused, and the host told so: PRI is off*'),
  ),
  mutant(
    'page requests that wait are forgotten at a reset',
    `${PROPAGATION}host-reports.js`,
    'for (const listening of this.#listening)\n            this.#giveUp(listening);',
    '',
    test('host-reports', 'reset: what is due*'),
  ),
  mutant(
    'a response that the host did not take is given up',
    `${PROPAGATION}host-reports.js`,
    'this.#expect(listening, keyOf(pasid, group));\n        return',
    'return',
    test('host-reports', 'a host that does not take the response*'),
  ),
];
