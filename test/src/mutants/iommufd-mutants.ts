/** Ways to get what an iommufd tells and is told of devices wrong: page requests, events, virtual devices, queues. See mutants.ts. */
import type { Judge } from './judges.js';
import { mutant, type Mutant } from './mutants.js';

const KERNEL = 'packages/host-sim/dist/kernel/';
const IOMMUFD = `${KERNEL}iommufd/`;
const VTD_EVENTS = 'hw/intel-iommu/dist/driver/viommu.js';

const room = (file: string, match: string): Judge => ({ tests: `${IOMMUFD}${file}.test.js`, match });
const whole = (file: string, match: string): Judge => ({ tests: `test/dist/iommufd/${file}.test.js`, match });

export const IOMMUFD_MUTANTS: readonly Mutant[] = [
  mutant(
    'a group of page requests is split',
    `${IOMMUFD}fault-queue.js`,
    'if (!request.last)',
    'if (false)',
    room('fault-queue', '3.6/7: a group is never split*'),
  ),
  mutant(
    'page requests of a page table that was replaced wait for ever',
    `${IOMMUFD}fault-queue.js`,
    'abandon(source) {',
    'abandon(source) { return;',
    room('fault-queue', '3.6/6*'),
  ),
  mutant(
    'a group of page requests can be answered twice',
    `${IOMMUFD}fault-queue.js`,
    'this.#waiting.delete(cookie.get(view, done));',
    '',
    room('fault-queue', '3.6/7: a fault, field by field*'),
  ),
  mutant(
    'a page request that nobody can take is not answered',
    `${KERNEL}kernel.js`,
    'else if (request.last)',
    'else if (false)',
    whole('fault-queue', 'requests go to the queue*'),
  ),
  mutant(
    'a queue of events holds more than its depth',
    `${IOMMUFD}veventq.js`,
    'this.#events.length >= this.#depth',
    'false',
    room('veventq', '3.6/8: three events*'),
  ),
  mutant(
    'a device of a VM has two numbers',
    `${IOMMUFD}vdevice.js`,
    'device.vdevice !== undefined',
    'false',
    room('viommu', '3.6/9: VDEVICE_ALLOC*'),
  ),
  mutant(
    'a virtual device whose device goes leaves no tombstone',
    `${IOMMUFD}device.js`,
    'objects.bury(this.vdevice)',
    'objects.remove(this.vdevice)',
    room('viommu', '3.6/9: the device goes first*'),
  ),
  mutant(
    'hardware queues go in any order',
    `${IOMMUFD}hw-queue.js`,
    'this.#needs.users++;',
    ';',
    room('hw-queue', '3.6/11: ascending*'),
  ),
  mutant(
    'the memory of a hardware queue can be unmapped',
    `${IOMMUFD}ioas.js`,
    'area.locks++;',
    ';',
    room('hw-queue', '3.6/11: the memory*'),
  ),
  mutant(
    'a guest is told of a fault under the host’s requester id',
    VTD_EVENTS,
    'FaultRecord.fields.sid.set(told, 0, virtual);',
    '',
    whole('vtd-events', 'a page that the guest*'),
  ),
  mutant(
    'a guest is told of faults of the host’s second stage',
    VTD_EVENTS,
    "domain?.kind === 'nested' && OF_TABLES.has(fault.reason)",
    "domain?.kind === 'nested'",
    whole('vtd-events', 'what is not the guest*'),
  ),
  mutant(
    'a VM is told of the faults of another one’s page tables',
    VTD_EVENTS,
    'if (ofTables && vm.parent !== domain.parent)',
    'if (false)',
    whole('vtd-events', 'a page table of the VM*'),
  ),
];
