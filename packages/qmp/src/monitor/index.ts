/** The commands of the human monitor that human-monitor-command runs. Lines end in CR LF, as QEMU's. */
import type { QmpTarget } from '../target.js';
import { formatPci } from './pci.js';
import { formatQtree } from './qtree.js';
import { formatMtree } from './mtree.js';

interface MonitorCommand {
  /** How it is written, after its name. */
  readonly parameters: string;
  readonly help: string;
  /** Flags that it takes. */
  readonly flags: readonly string[];
  readonly run: (target: QmpTarget, flags: readonly string[]) => string;
}

const INFO: Readonly<Record<string, MonitorCommand>> = {
  iommu: {
    parameters: '',
    help: 'show registers and state of the IOMMUs',
    flags: [],
    run: target => target.describeIommus(),
  },
  mtree: { parameters: '', help: 'show memory tree', flags: [], run: formatMtree },
  name: { parameters: '', help: 'show the current VM name', flags: [], run: ({ name }) => name ?? '' },
  pci: { parameters: '', help: 'show PCI info', flags: [], run: formatPci },
  qtree: {
    parameters: ' [-b]',
    help: 'show device tree (-b: brief, without properties)',
    flags: ['-b'],
    run: (target, flags) => formatQtree(target, flags.includes('-b')),
  },
  status: { parameters: '', help: 'show whether the machine runs', flags: [], run: formatStatus },
  version: { parameters: '', help: 'show the version', flags: [], run: formatVersion },
};

/** Runs `line`; mistakes in it are answered by text, too. */
export function runMonitorCommand(target: QmpTarget, line: string): string {
  const [name = '', topic, ...flags] = line.trim().split(/\s+/);
  if (name === '') return '';
  if (name === 'help') return lines(help());
  if (name !== 'info') return lines(`unknown command: '${name}'`);
  if (topic === undefined) return lines(help());
  const command = Object.hasOwn(INFO, topic) ? INFO[topic] : undefined;
  if (command === undefined) return lines(`unknown command: 'info ${topic}'`);
  const wrong = flags.find(flag => !command.flags.includes(flag));
  if (wrong !== undefined) return lines(`${topic}: '${wrong}' is too much\nTry "help info" for more information`);
  return lines(command.run(target, flags));
}

function help(): string {
  return Object.entries(INFO)
    .map(([name, command]) => `info ${name}${command.parameters}  -- ${command.help}`)
    .join('\n');
}

function formatStatus({ state }: QmpTarget): string {
  return `VM status: ${state === 'prelaunch' ? 'paused (prelaunch)' : state}`;
}

function formatVersion({ version }: QmpTarget): string {
  return `${version.major}.${version.minor}.${version.micro}${version.package}`;
}

function lines(text: string): string {
  return text === '' ? '' : `${text.replace(/\n$/, '').replaceAll('\n', '\r\n')}\r\n`;
}
