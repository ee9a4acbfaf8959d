/** Whether a live boot was as it should be. Both sides are asked: Linux, and the model. */
import type { BootReport } from './console.js';
import type { LiveMode } from './modes.js';

/** What the model saw during one boot. */
export interface ModelReport {
  /** Transfers of devices that were translated, that passed through, and that came before translation was on, or after it. */
  readonly translated: number;
  readonly passed: number;
  readonly after: number;
  /** Faults that the unit recorded. */
  readonly faults: readonly ModelFault[];
}

export interface ModelFault {
  /** As Linux writes it: `0000:00:05.0`. */
  readonly source: string;
  readonly reason: number;
  readonly address: number;
}

/** What the host knows of the disk: MD5 sums of its first 16 MiB, and of the 4 MiB after them when the guest was done. */
export interface DiskReport {
  readonly given: string;
  readonly written: string;
}

export interface Check {
  /** Short and fixed: broken models are known by it. */
  readonly name: string;
  readonly ok: boolean;
  /** What was found, for people. */
  readonly found: string;
}

export interface LiveAddresses {
  /** PCI functions as Linux names them, and the address that is mapped for nobody. */
  readonly disk: string;
  readonly edu: string;
  readonly fault: number;
}

/** Fewer would mean that the disk's transfers went past the model. */
const LEAST_TRANSLATED = 1000;

/** All that Linux may say of a unit that works. */
const USUAL_MESSAGES = [
  /^DMAR: IOMMU enabled$/,
  /^DMAR: Host address width \d+$/,
  /^DMAR: DRHD base: 0x[0-9a-f]+ flags: 0x0$/,
  /^DMAR: dmar0: reg_base_addr [0-9a-f]+ ver 1:0 cap [0-9a-f]+ ecap [0-9a-f]+$/,
  /^DMAR: No (RMRR|ATSR|SATC) found$/,
  /^DMAR: dmar0: Using Queued invalidation$/,
  /^DMAR: Intel\(R\) Virtualization Technology for Directed I\/O$/,
  /^DMAR-IR: IOAPIC id \d+ under DRHD base {2}0x[0-9a-f]+ IOMMU 0$/,
  /^DMAR-IR: dmar0 does not support EIM$/,
  /^DMAR-IR: Queued invalidation will be enabled to support x2apic and Intr-remapping\.$/,
  /^DMAR-IR: Enabled IRQ remapping in x(2)?apic mode$/,
];
const FAULT_STATUS = /^DMAR: DRHD: handling fault status reg 2$/;

/** One after the other; a check whose subject was never reached fails, too. */
export function verdict(
  mode: LiveMode,
  at: LiveAddresses,
  boot: BootReport | undefined,
  model: ModelReport | undefined,
  disk: DiskReport,
): Check[] {
  const said = (keyword: string): string => boot?.said.get(keyword)?.join(', ') ?? 'nothing said';
  const checks: Check[] = [];
  const check = (name: string, ok: boolean, found: string): void => void checks.push({ name, ok, found });

  check('finished', boot?.said.has('done') === true, boot?.said.has('done') === true ? 'yes' : 'no');
  const groups = boot?.said.get('group') ?? [];
  const types = [at.disk, at.edu].map(each => groups.find(group => group.startsWith(`${each} `))?.split(' ')[2]);
  check(
    'domain',
    types.every(type => type === mode.domain),
    types.map(type => type ?? 'none').join(', '),
  );
  check('read', said('read') === disk.given, said('read'));
  const written = ['written', 'back', 'bound'].map(said);
  check(
    'written',
    written.every(sum => sum === disk.written),
    written.join(' '),
  );
  const storm = said('storm').split(' ');
  check('storm', storm.length === 2 && storm[0] === storm[1] && storm[0]!.length === 32, said('storm'));

  const faults = faultMessages(mode, at);
  const messages = boot?.dmar ?? [];
  const unusual = messages.filter(each => ![...USUAL_MESSAGES, ...faults].some(usual => usual.test(each)));
  check('messages', boot !== undefined && unusual.length === 0, unusual[0] ?? `${messages.length}, all usual`);
  const decoded = faults.map(pattern => messages.filter(each => pattern.test(each)).length);
  check(
    'decoded',
    decoded.every(count => count === 1),
    decoded.length === 0 ? 'none to decode' : decoded.join(', '),
  );
  const wanted = mode.fault === undefined ? [] : [`${at.edu} ${mode.fault.reason} ${at.fault}`];
  const recorded = (model?.faults ?? []).map(({ source, reason, address }) => `${source} ${reason} ${address}`);
  check('recorded', recorded.join() === wanted.join(), recorded.join(', ') || 'no fault');

  if (mode.domain === 'identity') return checks;
  const { translated, passed, after } = model ?? { translated: 0, passed: 0, after: 0 };
  check('translated', translated >= LEAST_TRANSLATED, String(translated));
  check('untranslated', passed + after === 0, String(passed + after));
  return checks;
}

/** What Linux says of the provoked fault, each once. */
function faultMessages(mode: LiveMode, { edu, fault }: LiveAddresses): RegExp[] {
  if (mode.fault === undefined) return [];
  const reason = mode.fault.reason.toString(16).padStart(2, '0');
  // Since 7 Linux writes the domain, too.
  const source = `(?:${literal(edu)}|${literal(edu.slice(edu.indexOf(':') + 1))})`;
  const decoded = literal(` fault addr 0x${fault.toString(16)} [fault reason 0x${reason}] ${mode.fault.message}`);
  return [FAULT_STATUS, new RegExp(`^DMAR: \\[DMA Read NO_PASID\\] Request device \\[${source}\\]${decoded}$`)];
}

/** As a part of a regular expression. */
function literal(text: string): string {
  return text.replace(/[[\]().]/g, '\\$&');
}
