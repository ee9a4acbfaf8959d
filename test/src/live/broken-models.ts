/** Ways to get the model wrong that Linux itself must notice: each a small change to the compiled code. */
import type { CheckName } from '@remora/tools/live';
import type { Alteration } from '../mutants/workshop.js';

export interface BrokenModel {
  readonly name: string;
  /** The mode of remora live in which it shows. */
  readonly mode: string;
  readonly alteration: Alteration;
  /**
   * The checks that must fail. Where the guest comes to its end, no others may; where it does not, how far it came depends on what else
   * the computer does, but whether it fell silent does not.
   */
  readonly failing: readonly CheckName[];
}

const DEVICE = 'hw/intel-iommu/dist/device/';
const IOTLB = 'iotlb(granularity, domain, hi, lo, mask, leaf) {';

/** What the guest's script would have said of the disk, and what would have come of the provoked fault after that. */
const NO_DISK: readonly CheckName[] = [
  'finished',
  'domain',
  'read',
  'written',
  'storm',
  'bound',
  'decoded',
  'recorded',
];

export const BROKEN_MODELS: readonly BrokenModel[] = [
  {
    name: 'invalidations are ignored',
    mode: 'strict',
    alteration: { file: `${DEVICE}invalidate.js`, find: IOTLB, replace: `${IOTLB} return 0;` },
    // The driver is given stale data, and no disk comes up; the guest goes on, so that it is not for silence that it fails.
    failing: ['kernel', ...NO_DISK],
  },
  {
    name: 'the wrong domain is flushed',
    mode: 'strict',
    alteration: { file: `${DEVICE}invalidate.js`, find: IOTLB, replace: `${IOTLB} domain ^= 1;` },
    // The driver is given stale data, and no disk comes up; the guest goes on, so that it is not for silence that it fails.
    failing: ['kernel', ...NO_DISK],
  },
  {
    name: 'the status of a wait is missing',
    mode: 'legacy',
    alteration: { file: `${DEVICE}descriptors.js`, find: 'if (statusWrite) {', replace: 'if (false) {' },
    failing: ['awake', ...NO_DISK],
  },
  {
    name: 'faults have the wrong reason',
    mode: 'legacy',
    alteration: {
      file: `${DEVICE}behaviour.js`,
      find: 'notPresentRead: Fault.LGN_3',
      replace: 'notPresentRead: Fault.LGN_2',
    },
    failing: ['messages', 'decoded', 'recorded'],
  },
  {
    name: 'reads of eight bytes are of four',
    mode: 'scalable',
    alteration: {
      file: `${DEVICE}register-block.js`,
      find: 'out[1] = this.#read(offset + 4, 4);',
      replace: 'out[1] = 0;',
    },
    failing: ['capabilities', 'messages', 'decoded', 'recorded'],
  },
];
