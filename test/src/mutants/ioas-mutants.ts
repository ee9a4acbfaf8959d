/** Ways to get I/O address spaces, and what every ioctl of /dev/iommu has in common, wrong. See mutants.ts. */
import type { Judge } from './judges.js';
import { mutant, type Mutant } from './mutants.js';

const HOST_SIM = 'packages/host-sim/dist/';
const IOMMUFD = `${HOST_SIM}kernel/iommufd/`;

const room = (file: string, match: string): Judge => ({ tests: `${IOMMUFD}${file}.test.js`, match });

export const IOAS_MUTANTS: readonly Mutant[] = [
  mutant(
    'what an iommufd does not know of a structure is passed over',
    `${IOMMUFD}file.js`,
    'return -Errno.E2BIG;',
    'break;',
    room('sizes', '3.6/1: IOMMU_IOAS_ALLOC: too short*'),
  ),
  mutant(
    'an object is destroyed while others need it',
    `${IOMMUFD}objects.js`,
    'if (object.users > 0)',
    'if (false)',
    room('destroy-pairs', '3.6/2: address space, page table'),
  ),
  mutant(
    'automatic IOVAs do not care how the memory is aligned',
    `${IOMMUFD}iova-room.js`,
    'return address !== 0n && lowest < wanted ? lowest : wanted;',
    'return 1n;',
    room('iova-room', '3.6/13: automatic IOVAs are as aligned*'),
  ),
  mutant(
    'automatic IOVAs leave what is allowed',
    `${IOMMUFD}iova-room.js`,
    'this.#allowed.items.length === 0',
    'true',
    room('iova-room', '3.6/13: automatic IOVAs keep out*'),
  ),
  mutant(
    'what is reserved can be mapped',
    `${IOMMUFD}ioas.js`,
    'if (this.room.isReserved({ start, end }))',
    'if (false)',
    room('ioas', 'MAP: what is refused*'),
  ),
  mutant(
    'a copy may be written where the memory may not',
    `${IOMMUFD}ioas.js`,
    '&& !pages.writable)',
    '&& false)',
    room('ioas', 'COPY shares the pages*'),
  ),
  mutant(
    'a page table that refuses leaves the mapping in the others',
    `${IOMMUFD}ioas.js`,
    'for (const other of shown)',
    'for (const other of [])',
    room('ioas', '3.6/14: if one page table refuses*'),
  ),
  mutant(
    'a page table that does not let go leaves the others without the mapping',
    `${IOMMUFD}ioas.js`,
    'for (const other of gone)',
    'for (const other of [])',
    room('ioas', '3.6/14: if one page table refuses*'),
  ),
  mutant(
    'what hardware needs can be unmapped',
    `${IOMMUFD}ioas.js`,
    'error = area.locks > 0 ? -Errno.EBUSY :',
    'error =',
    room('io-pages', '3.6/15*'),
  ),
  mutant(
    'memory of a process changes hands',
    `${IOMMUFD}ioas-ioctls.js`,
    "if (pages.some(({ source }) => source.kind !== 'file'))",
    'if (false)',
    room('io-pages', '3.6/16: the owner exits*'),
  ),
  mutant(
    'a dma-buf that is taken back stays mapped',
    `${IOMMUFD}io-pages.js`,
    'view.hide(this);',
    '',
    room('dma-buf', '3.6/18: revoked while mapped, since it is reset*'),
  ),
  mutant(
    "VFIO's address space is another that got its id",
    `${IOMMUFD}vfio-ioas.js`,
    'context.objects.get(ioas.id, Ioas) === ioas',
    "typeof context.objects.get(ioas.id, Ioas) !== 'number'",
    room('vfio-compat', '3.6/20: VFIO_IOAS*'),
  ),
  mutant(
    'version 1 on an iommufd does not cut mappings',
    `${IOMMUFD}vfio-compat.js`,
    'ioas.cut(iova) || ioas.cut(iova + size)',
    '0',
    room('vfio-compat', '3.6/20: version 2 does not cut*'),
  ),
  mutant(
    'a file is gone when one of its descriptors is closed',
    `${HOST_SIM}process.js`,
    'if (left === 0)',
    'if (true)',
    room('io-pages', '3.6/16: the owner exits*'),
  ),
];
