/** Ways for a client of iommufd, and for the vIOMMU that uses it, to be wrong: see mutants.ts. */
import type { Judge } from './judges.js';
import { DEVICE, mutant, type Mutant } from './mutants.js';

const CLIENT = 'packages/host/dist/iommufd/';
const PROPAGATION = `${DEVICE}propagation/`;

const bytes = (match: string): Judge => ({ tests: `${CLIENT}host-iommu-context.test.js`, match });
const whole = (file: string, match: string): Judge => ({ tests: `test/dist/${file}.test.js`, match });

export const IOMMUFD_CLIENT_MUTANTS: readonly Mutant[] = [
  mutant(
    'what a new table replaced is not destroyed',
    `${CLIENT}host-iommu-context.js`,
    'this.#home.pasids.unbound(pasid);\n        this.#destroy(hwpt);',
    'this.#home.pasids.unbound(pasid);',
    whole('scenarios/share', 'what one interface*'),
  ),
  mutant(
    'a table whose attachment was refused stays',
    `${CLIENT}host-iommu-context.js`,
    'if (attached < 0) {\n            this.#destroy(hwpt);',
    'if (attached < 0) {',
    bytes('the host refuses the table*'),
  ),
  mutant(
    'flushes of two PASIDs go to the table of the first',
    `${CLIENT}host-iommu-context.js`,
    'if (flush.pasid !== pasid)',
    'if (false)',
    bytes('flushes: one array*'),
  ),
  mutant(
    'a flush that was refused counts as done',
    `${CLIENT}host-iommu-context.js`,
    'batch.accepted = first + done;',
    'batch.accepted = first + count;',
    bytes('a batch that is accepted in part*'),
  ),
  mutant(
    'a report cuts an operation in two',
    `${CLIENT}report-file.js`,
    'if (this.#held > 0 || this.#reading)',
    'if (this.#reading)',
    bytes('a report that comes within an operation*'),
  ),
  mutant(
    'page requests that nobody waits for are not answered',
    `${CLIENT}page-requests.js`,
    'if (request.last)\n                    this.#answer(',
    'if (false)\n                    this.#answer(',
    bytes('nobody listens any more*'),
  ),
  mutant(
    'an address space is not unmapped when its last device leaves',
    `${CLIENT}spaces.js`,
    'if (--home.devices === 0)',
    'if (--home.devices < 0)',
    { tests: `${CLIENT}connecting.test.js`, match: 'nested: bind, ask*' },
  ),
  mutant(
    'PASID 0 is not bound where the host can',
    `${PROPAGATION}pasid-cache.js`,
    '(hosted.context.flags & HostIommuFlag.PASID_0) === 0',
    'true',
    whole('iommufd/plain-requests', 'a first stage at PASID 0*'),
  ),
  mutant(
    'without an entry for PASID 0, requests without PASID use guest-physical addresses',
    `${PROPAGATION}pasid-cache.js`,
    "return pasid === 0 && !this.#tables.translating ? 'pass-through' : 'abort';",
    "return pasid === 0 ? 'pass-through' : 'abort';",
    whole('iommufd/plain-requests', 'without translation*'),
  ),
  mutant(
    'a second stage of the guest’s own passes guest-physical addresses',
    `${PROPAGATION}pasid-cache.js`,
    "passes ? 'pass-through' : 'abort'",
    "'pass-through'",
    whole('iommufd/plain-requests', 'a second stage*'),
  ),
  mutant(
    'a PASID is free when the device leaves through which the guest got it',
    `${PROPAGATION}guest-pasids.js`,
    'if (context !== undefined && this.#fellow(context) !== undefined)',
    'if (false)',
    whole('iommufd/two-devices', 'the first device leaves*'),
  ),
  mutant(
    'after a restore, PASID 0 has guest-physical addresses',
    `${PROPAGATION}pasid-cache.js`,
    "expectAgain('pass or refuse', hosted, 0, this.#settlePlain(hosted));",
    '',
    whole('iommufd/plain-requests', 'restored on another host, PASID 0 has what it had: nothing'),
  ),
];
