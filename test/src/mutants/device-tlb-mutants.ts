/** Ways to get the devices' side of ATS and page requests wrong, and that of their drivers: see mutants.ts. */
import type { Judge } from './judges.js';
import { mutant, type Mutant } from './mutants.js';

const PCI = 'packages/pci/dist/';
const DRIVER = 'hw/intel-iommu/dist/driver/';
const HOST = 'packages/host-sim/dist/devices/';

/** Tests with machines: those of `file` whose title matches. */
const machines = (file: string, match: string): Judge => ({ tests: `test/dist/ats/${file}.test.js`, match });
const driver = (match: string): Judge => ({ tests: `${DRIVER}page-requests.test.js`, match });

export const DEVICE_TLB_MUTANTS: readonly Mutant[] = [
  mutant(
    'a device TLB keeps what is invalidated',
    `${PCI}device-tlb.js`,
    'this.#cache.invalidatePages(',
    'void (',
    machines('demand-paging', 'with PASID: pages come and go*'),
  ),
  mutant(
    'an invalidation of all PASIDs takes one',
    `${PCI}device-tlb.js`,
    'if (global)',
    'if (false)',
    machines('device-tlb', 'types 3 and 8*'),
  ),
  mutant(
    'a device TLB drops one page of a range',
    `${PCI}device-tlb.js`,
    'Math.max(shift, this.#ats.smallestShift)',
    'this.#ats.smallestShift',
    machines('device-tlb', 'with PASID: a range of pages goes*'),
  ),
  mutant(
    'a device TLB does not look at permissions',
    `${PCI}device-tlb.js`,
    '(this.#cache.access(slot) & needed) === needed',
    'true',
    machines('device-tlb', 'a page that may only be read*'),
  ),
  mutant(
    'a function still waits for page responses after its reset',
    `${PCI}device-tlb.js`,
    'fn.onReset(() => this.#forget());',
    '',
    machines('page-requests', 'a reset while the device waits*'),
  ),
  mutant(
    'a slow device says at once that it is done',
    `${PCI}device-tlb.js`,
    'if (this.#delayed === undefined)',
    'if (true)',
    machines('device-tlb', 'a slow device*'),
  ),
  mutant(
    'a refused page is taken for a granted one',
    `${PCI}device-tlb-channel.js`,
    'if (this.#answer > PageResponse.SUCCESS)',
    'if (false)',
    machines('page-requests', '*"invalid request"*'),
  ),
  mutant(
    'a device whose IOMMU says "try again" does so at once, until it gives up',
    `${PCI}device-tlb-channel.js`,
    'this.#answeredAtOnce = this.#tlb.clock !== undefined;',
    '',
    machines('page-requests', 'a queue that runs full*'),
  ),
  mutant(
    'a driver does not end an overflow',
    `${DRIVER}page-requests.js`,
    'this.#registers.write32(Reg.PRS, Prs.PRO);',
    '',
    driver('a queue that runs full*'),
  ),
  mutant(
    'a driver does not drain page requests',
    `${DRIVER}vtd-driver.js`,
    'this.capabilities.ecap.pds ?',
    'false ?',
    driver('when a PASID goes*'),
  ),
  mutant(
    'a host flushes its IOTLB and not the device TLB',
    `${DRIVER}host-domain.js`,
    'if (!this.driver.hasDeviceTlb(requesterId))\n            return',
    'if (true)\n            return',
    machines('host', 'stale until the guest flushes*'),
  ),
  mutant(
    'a host unmaps pages and leaves them in the device TLB',
    `${DRIVER}host-domain.js`,
    '|| !this.driver.hasDeviceTlb(requesterId))\n                continue',
    '|| true)\n                continue',
    machines('host', 'what shadow mapping takes away*'),
  ),
  mutant(
    "a user of VFIO has the device's ATS and page requests in hand",
    `${HOST}virtual-config.js`,
    'this.#keepAts();',
    '',
    machines('host', 'the guest sees neither*'),
  ),
  mutant(
    'after a reset by its user a device has lost ATS',
    `${HOST}physical-device.js`,
    'if (ats)',
    'if (false)',
    machines('host', 'a reset by the guest*'),
  ),
  mutant(
    "a device's translations move with it to another host",
    `${HOST}physical-device.js`,
    'this.fn.atsCapability?.enable(this.fn.atsEnabled);',
    '',
    machines('host', 'restored on a host*'),
  ),
];
