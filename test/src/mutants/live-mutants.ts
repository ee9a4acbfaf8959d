/** Ways to get what Linux uses wrong, in the profile of the specification: recordings of remora live find them. See mutants.ts. */
import { DEVICE, mutant, type Mutant } from './mutants.js';

const INVALIDATE = `${DEVICE}invalidate.js`;

export const LIVE_MUTANTS: readonly Mutant[] = [
  mutant(
    'the IOTLB is deaf to the flushes of a Linux that saves them up',
    INVALIDATE,
    'iotlb(granularity, domain, hi, lo, mask, leaf) {',
    'iotlb(granularity, domain, hi, lo, mask, leaf) { return 0;',
    { recording: 'ir-6.1' },
  ),
  mutant(
    'pages of a PASID stay cached when they are flushed',
    INVALIDATE,
    'const first = iotlb.asid(domain, pasid, TlbKind.FIRST_STAGE);',
    'return; const first = iotlb.asid(domain, pasid, TlbKind.FIRST_STAGE);',
    { recording: 'scalable-7.2' },
  ),
  mutant(
    'a remapped interrupt goes to another processor',
    `${DEVICE}interrupt-remapping.js`,
    'fields.destination.set(message, 0, destination);',
    'fields.destination.set(message, 0, destination ^ 2);',
    { recording: 'ir-6.1' },
  ),
  mutant(
    'an invalidation wait tells nobody that it is done',
    `${DEVICE}descriptors.js`,
    'if (this.#environment.memory.store(words[3], words[2], status, 0, 1) !== MemTx.OK) {',
    'if (false) {',
    { recording: 'scalable-7.2' },
  ),
];
