/** Whether what Linux did to the unit of its machine came down to the host that lends the accelerator. */
import type { UnitCounts } from '../observed-unit.js';
import type { Check } from '../verdict.js';
import type { CallCount } from './counted-calls.js';
import type { Lending } from './dsa-modes.js';

/** What the host saw. */
export interface LentAccount {
  readonly lending: Lending;
  /** Of the host's own unit. */
  readonly unit: UnitCounts;
  /** What the machine asked of the host's kernel, by name. */
  readonly calls: ReadonlyMap<string, CallCount>;
  /** That the host's unit recorded. */
  readonly faults: number;
  /** PASIDs that the host's kernel has given out. */
  readonly pasids: readonly number[];
}

/**
 * Calls by which page tables of the guest's are bound, and how many there are at the least: for a kernel that shares address spaces, and for
 * one that does not. A container binds for the kernel and for a process, and unbinds that; an iommufd binds PASID 0 as well, and unbinds otherwise.
 */
const BINDS = {
  container: { name: 'VFIO_IOMMU_BIND', sharing: 3, other: 0 },
  iommufd: { name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', sharing: 3, other: 1 },
} as const;
const FLUSHES = { container: 'VFIO_IOMMU_CACHE_INVALIDATE', iommufd: 'IOMMU_HWPT_INVALIDATE' } as const;
/** Every page that the kernel's queue copied from or to is unmapped, and that is flushed at once. */
const LEAST_FLUSHES = 200;

const PAGE_RESPONSE = 'page-group-response';

/** `guest` is the account of the machine's unit; `shares`: the kernel shares address spaces. */
export function lentChecks(
  { lending, unit, calls, faults }: LentAccount,
  guest: Pick<UnitCounts, 'descriptors' | 'translated' | 'direct' | 'passed' | 'after'> | undefined,
  shares: boolean,
): Check[] {
  const count = (name: string): CallCount => calls.get(name) ?? { made: 0, refused: 0 };
  const told = ({ made, refused }: CallCount): string => `${made}, ${refused} refused`;
  const { name, sharing, other } = BINDS[lending];
  const binds = count(name);
  const flushes = count(FLUSHES[lending]);
  const flushed = unit.descriptors.get('p-iotlb') ?? 0;
  const elsewhere = guest === undefined ? 1 : guest.translated + guest.direct + guest.passed + guest.after;
  const [answered = 0, responses = 0] = [unit, guest].map(each => each?.descriptors.get(PAGE_RESPONSE));
  return [
    { name: 'binds', ok: binds.made >= (shares ? sharing : other) && binds.refused === 0, found: told(binds) },
    {
      name: 'flushes',
      ok: flushes.made >= LEAST_FLUSHES && flushes.refused === 0 && flushed >= flushes.made,
      found: `${told(flushes)}; ${flushed} by the host's unit`,
    },
    { name: 'pages answered', ok: answered === responses, found: `${responses} by Linux, ${answered} by the host` },
    { name: "guest's unit", ok: elsewhere === 0, found: `${elsewhere} transfers` },
    { name: "host's faults", ok: faults === 0, found: String(faults) },
  ];
}
