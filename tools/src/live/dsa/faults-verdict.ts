/** Whether a fault of the host's unit became one of the guest's, and Linux understood it. */
import type { BootReport } from '../console.js';
import type { Check } from '../verdict.js';
import { DSA_FUNCTION } from './dsa-model.js';
import { type DsaAccount, dsaVerdict } from './dsa-verdict.js';
import type { LentAccount } from './lent-verdict.js';

/** Checks of other guests that hold here. */
const COMMON = new Set([
  ...['finished', 'driver', 'domain', 'kernel queue', 'kernel copies', 'translated', 'untranslated'],
  ...['kernel queue off', 'binds', 'flushes', "guest's unit", "host's faults"],
]);
/** The driver's result (DMA_TRANS_WRITE_FAILED: it knows no other), the address, and what came. */
const FAULTED = /^2 (0x[0-9a-f]+) untouched$/;
/** A first-stage entry that is not present (VT-d 7.1.3). */
const REASON = 0x71;
const TEXT = 'SM: Present bit in first-level paging entry is clear';
const DECODED =
  /^DMAR: \[DMA (\w+) (?:PASID 0x1|NO_PASID)\] Request device \[(\S+)\] fault addr (\S+) \[fault reason (\S+)\] (.*)$/;
const CALLS = ['IOMMU_VIOMMU_ALLOC', 'IOMMU_VEVENTQ_ALLOC'];

export function faultsVerdict(
  boot: BootReport | undefined,
  console: readonly string[],
  account: DsaAccount | undefined,
  lent: LentAccount,
): Check[] {
  const said = boot?.said.get('kernel_faulted')?.join(', ') ?? 'nothing said';
  const address = FAULTED.exec(said)?.[1];
  const messages = boot?.dmar.filter(each => each.startsWith('DMAR: [')) ?? [];
  const [, access, device = '', at, reason, text] = DECODED.exec(messages.join('; ')) ?? [];
  const decoded =
    access === 'Read' && DSA_FUNCTION.endsWith(device) && at === address && Number(reason) === REASON && text === TEXT;
  const recorded = account?.faults.map(each => `${each.source} ${each.reason} 0x${each.address.toString(16)}`) ?? [];
  const calls = CALLS.map(name => lent.calls.get(name)).map(count => count !== undefined && count.made > count.refused);
  const check = (name: string, ok: boolean, found: string): Check => ({ name, ok, found });
  return [
    ...dsaVerdict(boot, console, account, lent).filter(({ name }) => COMMON.has(name)),
    check('faulted', address !== undefined, said),
    check('decoded', decoded && address !== undefined, messages.join('; ') || 'nothing said'),
    check('recorded', recorded.join() === `${DSA_FUNCTION} ${REASON} ${address}`, recorded.join(', ') || 'no fault'),
    check('event queue', calls.every(Boolean), calls.every(Boolean) ? 'allocated' : 'none'),
  ];
}
