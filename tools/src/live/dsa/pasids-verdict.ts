/** Whether Linux got its PASIDs from the host below its machine. */
import type { BootReport } from '../console.js';
import type { Check } from '../verdict.js';
import type { LentAccount } from './lent-verdict.js';

/** So many a process of the host may have. */
export const PASID_QUOTA = 5;

const REQUEST = 'VFIO_IOMMU_PASID_REQUEST';
/** All are got, one is refused, all are given back, one is got again. */
const REQUESTS = 2 * PASID_QUOTA + 2;
const TAKES_COMMANDS = 'DMAR: Register custom PASID allocator';
const NONE_LEFT = /^DMAR: IOMMU: dmar0: No PASID available$/;
const LAST_PASID = 0xf_ffff;

export function pasidsVerdict(boot: BootReport | undefined, lent: Pick<LentAccount, 'calls' | 'pasids'>): Check[] {
  const all = (keyword: string): readonly string[] => boot?.said.get(keyword) ?? [];
  const given = all('pasid_given').map(Number);
  const [again = NaN] = all('pasid_again').map(Number);
  const { made, refused } = lent.calls.get(REQUEST) ?? { made: 0, refused: 0 };
  const messages = boot?.messages ?? [];
  const without = messages.filter(each => NONE_LEFT.test(each)).length;
  const distinct = new Set(given.filter(each => each > 0 && each <= LAST_PASID)).size;
  const check = (name: string, ok: boolean, found: string): Check => ({ name, ok, found });
  return [
    check('finished', boot?.said.has('done') === true, boot?.said.has('done') === true ? 'yes' : 'no'),
    check('allocator', messages.includes(TAKES_COMMANDS), messages.includes(TAKES_COMMANDS) ? 'registered' : 'none'),
    check('given', given.length === PASID_QUOTA && distinct === PASID_QUOTA, given.join(', ') || 'none'),
    check('none left', without === 1, `said ${without} times`),
    check('requests', made === REQUESTS && refused === 1, `${made}, ${refused} refused`),
    check("host's", lent.pasids.join() === String(again), `${lent.pasids.join(', ') || 'none'}; Linux has ${again}`),
  ];
}
