/** Ways to be wrong about VMIDs, and about devices that a unit does not let go of: see mutants.ts. */
import type { Judge } from './judges.js';
import { mutant, type Mutant } from './mutants.js';

const DRIVER = 'hw/intel-iommu/dist/driver/';
const KERNEL = 'packages/host-sim/dist/kernel/';
const CLIENT = 'packages/host/dist/vfio/';

const driver = (match: string): Judge => ({ tests: `${DRIVER}domain-tags.test.js`, match });
const whole = (file: string, match: string): Judge => ({ tests: `test/dist/${file}.test.js`, match });

export const VMID_MUTANTS: readonly Mutant[] = [
  mutant(
    'a VMID that one of two domains gives up is free',
    `${DRIVER}domain-ids.js`,
    'if (users === 0)',
    'if (true)',
    driver('behaviour 75*'),
  ),
  mutant(
    'a domain changes its id while it is in use',
    `${DRIVER}host-domain.js`,
    'if (this.#finalised)',
    'if (false)',
    driver('behaviour 74*'),
  ),
  mutant(
    'a device TLB behind the same id keeps what another domain unmapped',
    `${DRIVER}host-domain.js`,
    'domain.#id !== this.#id',
    'domain !== this',
    driver('a device TLB that holds*'),
  ),
  mutant(
    "another process's VMID can be had",
    `${KERNEL}vmid-space.js`,
    'known !== undefined && known.owner !== owner && defects.unowned !== true',
    'false',
    whole('behaviours/vmid', 'behaviour 75*'),
  ),
  mutant(
    'a container that does not nest passes its VMID on',
    `${KERNEL}container.js`,
    'backend.nested ? this.#vmid : undefined',
    'this.#vmid',
    whole('behaviours/vmid', 'behaviour 73*'),
  ),
  mutant(
    'a VMM keeps its VMID when its last container is gone',
    `${CLIENT}vmid.js`,
    'this.#users--;\n        this.forgetUnused();',
    'this.#users--;',
    whole('propagation/vmid', 'the last container takes*'),
  ),
  mutant(
    'a device that a unit did not let go of at once is not asked again',
    `${KERNEL}insist.js`,
    'result < 0 ? act() : result',
    'result',
    { tests: `${KERNEL}insist.test.js`, match: 'a unit that refuses*' },
  ),
];
