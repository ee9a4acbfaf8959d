/** Ways to get page tables of user space wrong, in the host's kernel and in the driver of its unit. See mutants.ts. */
import type { Judge } from './judges.js';
import { mutant, type Mutant } from './mutants.js';

const IOMMUFD = 'packages/host-sim/dist/kernel/iommufd/';
const DRIVER = 'hw/intel-iommu/dist/driver/';

const room = (match: string): Judge => ({ tests: `${DRIVER}user-ops.test.js`, match });
const kernel = (file: string, match: string): Judge => ({ tests: `${IOMMUFD}${file}.test.js`, match });
const whole = (file: string, match: string): Judge => ({ tests: `test/dist/iommufd/${file}.test.js`, match });

export const PAGE_TABLE_MUTANTS: readonly Mutant[] = [
  mutant(
    'a page table that replaces another is not told to the unit',
    `${DRIVER}vtd-driver.js`,
    'this.pasidEntry(requesterId, pasid, values);\n        const status = this.#forgetPasid(requesterId, pasid, entry);',
    'this.pasidEntry(requesterId, pasid, values);\n        const status = 0;',
    whole('attach', '3.6/6: a PASID*'),
  ),
  mutant(
    'what the unit read of a second stage below a guest’s table is not forgotten with that',
    `${DRIVER}vtd-driver.js`,
    'type === Pgtt.SECOND_STAGE || type === Pgtt.NESTED',
    'type === Pgtt.SECOND_STAGE',
    room('a table*id is given again*'),
  ),
  mutant(
    'what replaces another is not taken back when the unit refuses',
    `${DRIVER}vtd-driver.js`,
    'const status = this.#forgetPasid(requesterId, pasid, entry);\n        if (status !== 0)\n            this.writePasidEntry(requesterId, pasid, entry);\n        return status;\n    }\n    /**\n     * Sees',
    'const status = this.#forgetPasid(requesterId, pasid, entry);\n        return status;\n    }\n    /**\n     * Sees',
    room('when the unit refuses a flush*'),
  ),
  mutant(
    'an invalidation of a guest’s table reaches one function only',
    `${DRIVER}user-domains.js`,
    'if (this.#flushed.has(pasid))',
    'if (this.#flushed.size > 0)',
    room('invalidations reach every function*'),
  ),
  mutant(
    'an invalidation of a guest’s table leaves device TLBs alone',
    `${DRIVER}user-domains.js`,
    'if (!driver.hasDeviceTlb(requesterId))',
    'if (true)',
    room('invalidations reach every function*'),
  ),
  mutant(
    'what a parent unmaps stays below the tables that are nested over it',
    `${DRIVER}user-domains.js`,
    'if (uses.size > 0)',
    'if (false)',
    whole('hwpt', '3.6/3: two nested tables share*'),
  ),
  mutant(
    'an invalidation takes flags that it does not know',
    `${DRIVER}user-domains.js`,
    '(flag & ~IommuVtdInvFlag.LEAF) !== 0',
    'false',
    whole('invalidate', '3.6/4: the first entry is right*'),
  ),
  mutant(
    'pages that were reported as written are not noted again',
    `${DRIVER}user-domains.js`,
    'return cleared ? this.flushPages(iovaFrame, pages, true) : 0;',
    'return 0;',
    room('dirty pages*'),
  ),
  mutant(
    'what is nested over a table that tracks writes does not track them',
    `${DRIVER}user-domains.js`,
    'for (const domain of [this, ...this.nested])',
    'for (const domain of [this])',
    whole('dirty', '3.6/17: a domain at a PASID*'),
  ),
  mutant(
    'an invalidation says that all of its entries were done',
    `${IOMMUFD}hwpt-ioctls.js`,
    'fields.entry_num.set(view, done.processed);',
    'fields.entry_num.set(view, count);',
    kernel('hwpt', '3.6/4: the place of the error*'),
  ),
  mutant(
    'a page table goes while a device has it',
    `${IOMMUFD}attachments.js`,
    'served.hwpt.users++;',
    '',
    kernel('attachments', '3.6/12: devices of a group*'),
  ),
  mutant(
    'one device of a group is served by a table that the other does not have',
    `${IOMMUFD}attachments.js`,
    'for (const changed of done)',
    'for (const changed of [])',
    kernel('attachments', '3.6/12: devices of a group*'),
  ),
  mutant(
    'a table that is not made for PASIDs serves one',
    `${IOMMUFD}attachments.js`,
    'return pasid !== NO_PASID || pasids ? -Errno.EINVAL : 0;',
    'return 0;',
    whole('attach', '3.6/12: tables for PASIDs*'),
  ),
  mutant(
    'a device keeps what is mapped where it cannot have anything',
    `${IOMMUFD}attachments.js`,
    'const error = known ? 0 : ioas.reserve(device, this.#kernel.knobs.reservedIova);',
    'const error = 0;',
    whole('attach', '3.6/12: what is mapped where*'),
  ),
  mutant(
    'a device that is closed stays attached',
    `${IOMMUFD}device.js`,
    'for (const pasid of kernel.attachments.pasidsOf(this).reverse())',
    'for (const pasid of [])',
    kernel('attachments', '3.6/2: what is bound*'),
  ),
  mutant(
    'NO_CLEAR clears',
    `${IOMMUFD}dirty-ioctls.js`,
    '!noClear, (frame, pages)',
    'true, (frame, pages)',
    kernel('dirty', '3.6/17: 8 KiB*'),
  ),
];
