/** Whether a live boot was as it should be. Both sides are asked: Linux, and the model. */
import type { BootReport } from './console.js';
import { type DiskReport, SMALL_TRANSFERS } from './live-disk.js';
import { faultMessages, kernelComplaints, missingMessages, unusualMessages } from './messages.js';
import type { LiveMode } from './modes.js';

/** What the model saw during one boot. */
export interface ModelReport {
  /** Transfers of devices: translated, passed through, refused; and those that came after translation was on and off again. */
  readonly translated: number;
  readonly passed: number;
  readonly refused: number;
  readonly after: number;
  /** Invalidation descriptors by the names of their types. */
  readonly descriptors: ReadonlyMap<string, number>;
  /** Interrupts while remapping was on: through the table, refused, in the format that goes past it. */
  readonly remapped: number;
  readonly blocked: number;
  readonly unremapped: number;
  /** As Linux writes them: `cap d2008c222f0686 ecap f00f5a`. */
  readonly capabilities: string;
  /** Faults that the unit recorded. */
  readonly faults: readonly ModelFault[];
}

export interface ModelFault {
  /** As Linux writes it: `0000:00:05.0`. */
  readonly source: string;
  readonly reason: number;
  readonly address: number;
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

/** Fewer would mean that the disk's transfers, or its interrupts, went past the model. */
const LEAST_TRANSFERS = 1000;
const LEAST_INTERRUPTS = 500;

type Found = Omit<Check, 'name'>;

/** Every check there is, in the order of the report. One whose subject was never reached fails, too. */
const CHECKS = {
  /** The guest never fell silent. */
  awake: ({ silent }) => found(!silent, silent ? 'no: it fell silent' : 'yes'),
  finished: ({ boot }) => {
    const problem = boot.said.get('no')?.map(what => `no ${what}`) ?? [];
    const done = boot.said.has('done') && problem.length === 0;
    return found(done, done ? 'yes' : problem.join(', ') || 'no');
  },
  kernel: ({ boot }) => none(kernelComplaints(boot.messages), `${boot.messages.length} messages, no complaint`),
  processors: ({ mode, said }) => found(said('processors') === String(mode.cpus), said('processors')),
  /** Linux reads what the unit has. */
  capabilities: ({ boot, model }) => {
    const read = boot.dmar.map(each => /^DMAR: dmar0: reg_base_addr .* (cap \w+ ecap \w+)$/.exec(each)?.[1]);
    const [first = 'nothing said'] = read.filter(each => each !== undefined);
    return found(first === model.capabilities, first);
  },
  domain: ({ mode, at, boot }) => {
    const groups = (boot.said.get('group') ?? []).map(each => each.split(' '));
    const types = [at.disk, at.edu].map(each => groups.find(([name]) => name === each)?.[2] ?? 'none');
    const ids = groups.map(([, id]) => id);
    const apart = groups.length === types.length && new Set(ids).size === ids.length;
    return found(apart && types.every(type => type === mode.domain), types.join(', '));
  },
  read: ({ said, disk }) => found(said('read') === disk.before.given, said('read')),
  written: ({ said, disk }) => {
    const sums = ['written', 'back'].map(said);
    return found(
      sums.every(sum => sum === disk.after.written),
      sums.join(' '),
    );
  },
  /** Many small transfers, each mapped and unmapped. */
  storm: ({ said, disk }) => found(said('storm') === disk.after.pieces.join(' '), said('storm')),
  /** The driver lets the disk go, and takes it again. */
  bound: ({ said, disk }) => {
    const sums = [said('unbound'), said('bound')];
    return found(sums.join(' ') === `yes ${disk.after.written}`, sums.join(', '));
  },
  /** Nothing else on the disk has changed. */
  untouched: ({ disk }) => {
    const same = disk.before.rest === disk.after.rest;
    return found(same, same ? 'yes' : 'no');
  },
  flushed: ({ mode, model }) => {
    const flushes = (model.descriptors.get('iotlb') ?? 0) + (model.descriptors.get('p-iotlb') ?? 0);
    // Strict: one for each small transfer. Batches: far fewer, but some. Identity: there is nothing to flush.
    if (mode.domain === 'DMA') return found(flushes >= SMALL_TRANSFERS, String(flushes));
    if (mode.domain === 'DMA-FQ') return found(flushes > 0 && flushes < SMALL_TRANSFERS, String(flushes));
    return found(flushes === 0, String(flushes));
  },
  messages: ({ mode, at, boot }) =>
    none(
      [...unusualMessages(mode, at, boot.dmar), ...missingMessages(mode, boot.dmar)],
      `${boot.dmar.length}, all usual`,
    ),
  /** What Linux says of the provoked fault, each once. */
  decoded: ({ mode, at, boot }) => {
    const counts = faultMessages(mode, at).map(pattern => boot.dmar.filter(each => pattern.test(each)).length);
    const provoked = mode.fault === undefined || boot.said.has('fault');
    return found(
      provoked && counts.every(count => count === 1),
      counts.length === 0 ? 'none to decode' : counts.join(', '),
    );
  },
  recorded: ({ mode, at, model }) => {
    const wanted = mode.fault === undefined ? [] : [`${at.edu} ${mode.fault.reason} ${at.fault}`];
    const recorded = model.faults.map(({ source, reason, address }) => `${source} ${reason} ${address}`);
    return found(
      recorded.join() === wanted.join() && model.refused === wanted.length,
      `${recorded.join(', ') || 'no fault'}; ${model.refused} refused`,
    );
  },
  translated: ({ mode, model: { translated, passed } }) =>
    mode.domain === 'identity'
      ? found(passed >= LEAST_TRANSFERS, `${passed} passed through`)
      : found(translated >= LEAST_TRANSFERS, String(translated)),
  /** Past the tables, or through tables where there should be none. */
  untranslated: ({ mode, model: { translated, passed, after } }) => {
    const wrong = after + (mode.domain === 'identity' ? translated : passed);
    return found(wrong === 0, String(wrong));
  },
  interrupts: ({ mode, boot, model: { remapped, blocked, unremapped } }) => {
    const lines = (boot.said.get('interrupts') ?? []).map(
      each => /^\d+: (\d+(?: \d+)*) ((?:IR-)?PCI-MSI)\b/.exec(each) ?? [],
    );
    const counts = lines.flatMap(([, each = '']) => each.split(' ').map(Number));
    const taken = counts.reduce((sum, each) => sum + each, 0);
    const kinds = [...new Set(lines.map(([, , kind]) => kind ?? 'nothing'))].join();
    const ways =
      mode.remapping === 'off'
        ? remapped === 0 && kinds === 'PCI-MSI'
        : remapped >= taken && unremapped === 0 && kinds === 'IR-PCI-MSI';
    return found(
      ways && taken >= LEAST_INTERRUPTS && blocked === 0,
      `${taken} taken as ${kinds || 'nothing'}, ${remapped} remapped, ${blocked} blocked, ${unremapped} past the table`,
    );
  },
} satisfies Record<string, (seen: Seen) => Found>;

export type CheckName = keyof typeof CHECKS;
export const CHECK_NAMES = Object.keys(CHECKS) as readonly CheckName[];

interface Seen {
  readonly mode: LiveMode;
  readonly at: LiveAddresses;
  readonly boot: BootReport;
  readonly model: ModelReport;
  readonly disk: DiskReports;
  readonly silent: boolean;
  /** The script's words after a keyword. */
  readonly said: (keyword: string) => string;
}

/** As the host gave it, and as the guest left it. */
export interface DiskReports {
  readonly before: DiskReport;
  readonly after: DiskReport;
}

/** `silent`: the guest fell silent, and was not waited for any longer. */
export function verdict(
  mode: LiveMode,
  at: LiveAddresses,
  boot: BootReport | undefined,
  model: ModelReport | undefined,
  disk: DiskReports,
  silent: boolean,
): Check[] {
  // Without both sides there is nothing to look at, and nothing holds.
  if (boot === undefined || model === undefined) {
    const text = boot === undefined ? 'Linux never came up' : 'the unit was never used';
    return CHECK_NAMES.map(name => ({ name, ok: false, found: text }));
  }
  const said = (keyword: string): string => boot.said.get(keyword)?.join(', ') ?? 'nothing said';
  const seen = { mode, at, boot, model, disk, silent, said };
  return CHECK_NAMES.map(name => ({ name, ...CHECKS[name](seen) }));
}

function found(ok: boolean, text: string): Found {
  return { ok, found: text };
}

/** Nothing may be there; the first thing that is is told. */
function none(what: readonly string[], otherwise: string): Found {
  return found(what.length === 0, what[0] ?? otherwise);
}
