/** Whether a boot with a Data Streaming Accelerator was as it should be: Linux is asked, and the model. */
import type { BootReport } from '../console.js';
import type { UnitAccount } from '../observed-unit.js';
import type { Check } from '../verdict.js';
import { COPY_BYTES } from './copy-program.js';

/** Pages of the copy's target: nobody has touched them before the device asks for each. */
const UNTOUCHED = COPY_BYTES / 0x1000;
const SUCCESS = '1';
const ENABLED = 'enabled enabled 0x0';
const STOPPED = 'disabled disabled 0x0';
/** Stable kernels before 6.18 share no address space on x86 since they know of stale translations of the kernel's own (EOPNOTSUPP). */
const REFUSED = 'pasid allocation failed: -95';
const FIRST_SHARING = 7;

/** What the model saw: invalidation descriptors by type, and faults. */
export type DsaAccount = Pick<UnitAccount, 'descriptors' | 'faults'>;

/** One after the other; a check whose subject was never reached fails, too. */
export function dsaVerdict(
  boot: BootReport | undefined,
  console: readonly string[],
  account: DsaAccount | undefined,
): Check[] {
  const all = (keyword: string): readonly string[] => boot?.said.get(keyword) ?? [];
  const said = (keyword: string): string => all(keyword).join(', ') || 'nothing said';
  const checks: Check[] = [];
  const check = (name: string, ok: boolean, found: string): void => void checks.push({ name, ok, found });

  check('finished', boot?.said.has('done') === true, boot?.said.has('done') === true ? 'yes' : 'no');
  check('driver', said('driver') === 'idxd', said('driver'));
  check('domain', said('group') === 'DMA-FQ', said('group'));
  check('pasids', said('pasids') === '1', said('pasids'));
  check('kernel queue', said('kernel_queue') === `${ENABLED} dma0chan0`, said('kernel_queue'));
  const misc = all('interrupts').find(line => line.endsWith('idxd-misc'));
  const count = Number(misc?.split(/\s+/)[1] ?? 0);
  check('interrupts', count >= 2, misc ?? 'none');
  check('kernel queue off', said('kernel_stopped') === STOPPED, said('kernel_stopped'));
  check('user queue', said('user_queue') === ENABLED, said('user_queue'));

  const shares = Number.parseInt(said('kernel'), 10) >= FIRST_SHARING;
  const requested = account?.descriptors.get('page-group-response') ?? 0;
  if (shares) {
    check('shared', said('taken') === `${SUCCESS} ${said('given')}`, said('taken'));
    check('pages requested', requested >= UNTOUCHED, String(requested));
  } else {
    const refusal = console.find(line => line.includes(REFUSED));
    check('shared', refusal !== undefined && requested === 0, refusal?.trim() ?? 'not refused');
  }
  check('user queue off', said('user_stopped') === STOPPED, said('user_stopped'));
  check('faults', account?.faults.length === 0, String(account?.faults.length ?? 'no account'));
  return checks;
}
