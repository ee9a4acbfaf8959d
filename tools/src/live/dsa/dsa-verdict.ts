/** Whether a boot with a Data Streaming Accelerator was as it should be: Linux is asked, and the model. */
import type { BootReport } from '../console.js';
import type { UnitAccount } from '../observed-unit.js';
import type { Check } from '../verdict.js';
import { type LentAccount, lentChecks } from './lent-verdict.js';
import { COPY_BYTES } from './copy-program.js';

/** Pages of the target of two copies: nobody has touched them before the device asks for each. */
const UNTOUCHED = (2 * COPY_BYTES) / 0x1000;
/** Copies that a work queue of the kernel's must have done. */
const LEAST_COPIES = 100;
const PAGE = 0x1000;
/** Of the first completion record, and of the second. */
const SUCCESS = String(0x11);
const ENABLED = 'enabled enabled 0x0';
const STOPPED = 'disabled disabled 0x0';
/** Stable kernels before 6.18 share no address space on x86 since they know of stale translations of the kernel's own (EOPNOTSUPP). */
const REFUSED = 'pasid allocation failed: -95';
const FIRST_SHARING = 7;

/** What the model saw: invalidation descriptors by type, faults, and the ways that transfers took. */
export type DsaAccount = Pick<UnitAccount, 'descriptors' | 'faults' | 'translated' | 'direct' | 'passed' | 'after'>;

/** `0 56 9077704 eadbff38 eadbff38`: an error, copies, bytes, and the sums of what was given and taken. */
const COPIED = /^(-?\d+) (\d+) (\d+) ([0-9a-f]{8}) ([0-9a-f]{8})$/;

/** `lent`: what a host saw that lends the accelerator. One after the other; a check whose subject was never reached fails, too. */
export function dsaVerdict(
  boot: BootReport | undefined,
  console: readonly string[],
  account: DsaAccount | undefined,
  lent?: LentAccount,
): Check[] {
  const all = (keyword: string): readonly string[] => boot?.said.get(keyword) ?? [];
  const said = (keyword: string): string => all(keyword).join(', ') || 'nothing said';
  const checks: Check[] = [];
  const check = (name: string, ok: boolean, found: string): void => void checks.push({ name, ok, found });

  check('finished', boot?.said.has('done') === true, boot?.said.has('done') === true ? 'yes' : 'no');
  check('driver', said('driver') === 'idxd', said('driver'));
  check('domain', said('group') === 'DMA', said('group'));
  check('pasids', said('pasids') === '1', said('pasids'));
  check('kernel queue', said('kernel_queue') === `${ENABLED} dma0chan0`, said('kernel_queue'));
  const copied = COPIED.exec(said('kernel_copied')) ?? [];
  const [error, copies = 0, bytes = 0] = copied.slice(1, 4).map(Number);
  check('kernel copies', error === 0 && copies >= LEAST_COPIES && copied[4] === copied[5], said('kernel_copied'));
  // Each was submitted by an instruction that our module executed: nobody else stored it.
  check('kernel submits', copies > 0 && said('kernel_executed') === String(copies), said('kernel_executed'));
  // Every page is read once, and written once.
  const way = lent?.unit ?? account;
  const translated = (way?.translated ?? 0) + (way?.direct ?? 0);
  check('translated', bytes > 0 && translated >= (2 * bytes) / PAGE, String(translated));
  const untranslated = way === undefined ? undefined : way.passed + way.after;
  check('untranslated', untranslated === 0, String(untranslated ?? 'no account'));
  const interrupts = (of: string): string | undefined => all('interrupts').find(line => line.endsWith(of));
  const count = (line: string | undefined): number => Number(line?.split(/\s+/)[1] ?? 0);
  const [misc, queue] = [interrupts('idxd-misc'), interrupts('idxd-portal')];
  check('interrupts', count(misc) >= 2, misc ?? 'none');
  check('queue interrupts', count(queue) >= 1, queue ?? 'none');
  check('kernel queue off', said('kernel_stopped') === STOPPED, said('kernel_stopped'));
  check('user queue', said('user_queue') === ENABLED, said('user_queue'));

  const shares = Number.parseInt(said('kernel'), 10) >= FIRST_SHARING;
  const requested = account?.descriptors.get('page-group-response') ?? 0;
  if (shares) {
    check('shared', said('taken') === `${SUCCESS} ${said('given')}`, said('taken'));
    check(
      'pages requested',
      lent?.lending === 'container' ? requested === 0 : requested >= UNTOUCHED,
      String(requested),
    );
  } else {
    const refusal = console.find(line => line.includes(REFUSED));
    check('shared', refusal !== undefined && requested === 0, refusal?.trim() ?? 'not refused');
  }
  check('user queue off', said('user_stopped') === STOPPED, said('user_stopped'));
  check('faults', account?.faults.length === 0, String(account?.faults.length ?? 'no account'));
  if (lent !== undefined) checks.push(...lentChecks(lent, account, shares));
  return checks;
}
