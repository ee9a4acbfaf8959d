/** What a QEMU says about itself, before anything is compared with it. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { spawnWithUs } from '../leftovers/index.js';
import { QemuError } from './qemu-error.js';

export interface QemuFacts {
  /** `10.0.2 (Debian 1:10.0.2+ds-1)` */
  readonly version: string;
  /** `10.0` */
  readonly series: string;
  /** It has an iommu-testdev. */
  readonly testdev: boolean;
  /** Properties of its intel-iommu. */
  readonly options: ReadonlySet<string>;
}

/** Versions that were compared with; 10.2 is the one that the compatible profile follows. */
export const KNOWN_SERIES: readonly string[] = ['10.0', '10.2', '11.1'];
/** Names that a property had over time, ours first. */
const RENAMED: readonly (readonly string[])[] = [
  ['x-scalable-mode', 'scalable-mode'],
  ['x-flts', 'flts', 'fsts'],
];
const TIME_LIMIT_MS = 120_000;
const SAID_KEPT = 1000;

interface Reply {
  readonly QMP?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}
interface Version {
  readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
  readonly package: string;
}

/** Starts it without a machine, and asks. @throws QemuError if it is no QEMU, says nothing, or lacks what programs need. */
export async function askQemu(program: string, timeLimit = TIME_LIMIT_MS): Promise<QemuFacts> {
  const child = spawnWithUs(program, ['-M', 'none', '-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let failure: string | undefined;
  let said = '';
  child.once('error', ({ message }) => (failure = message));
  child.stdin!.on('error', () => undefined);
  child.stderr!.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-SAID_KEPT)));
  const timer = setTimeout(() => {
    failure = `it has said nothing as a QEMU would for ${timeLimit / 1000} s`;
    child.kill('SIGKILL');
  }, timeLimit);
  try {
    return await interview(program, child, () => failure ?? said.trim().split('\n').at(-1) ?? '');
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}

async function interview(program: string, child: ChildProcess, why: () => string): Promise<QemuFacts> {
  const replies = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const hear = async (key: 'QMP' | 'return'): Promise<Reply> => {
    for (;;) {
      const { value, done } = await replies.next();
      // The reason of an end is known a little later than the end.
      if (done === true) await new Promise(resolve => setTimeout(resolve, 0));
      if (done === true) throw new QemuError(`${program} cannot be compared with: ${why() || 'it ended at once'}`);
      const reply = replyOf(value as string);
      if (reply === undefined) throw new QemuError(`${program} is no QEMU: it said "${String(value).slice(0, 60)}"`);
      if (key in reply || 'error' in reply) return reply;
    }
  };
  const ask = async (execute: string, args?: object): Promise<Reply> => {
    child.stdin!.write(`${JSON.stringify({ execute, ...(args === undefined ? {} : { arguments: args }) })}\n`);
    return hear('return');
  };
  const propertiesOf = async (typename: string): Promise<Set<string> | undefined> => {
    const { return: list } = await ask('device-list-properties', { typename });
    return Array.isArray(list) ? new Set(list.map(({ name }: { name: string }) => name)) : undefined;
  };

  await hear('QMP');
  await ask('qmp_capabilities');
  const { qemu, package: distributor } = (await ask('query-version')).return as Version;
  const options = await propertiesOf('intel-iommu');
  for (const [name, found] of [
    ['intel-iommu', options],
    ['edu', await propertiesOf('edu')],
  ] as const)
    if (found === undefined) throw new QemuError(`${program} has no ${name} device`);
  return {
    version: `${qemu.major}.${qemu.minor}.${qemu.micro}${distributor === '' ? '' : ` ${distributor}`}`,
    series: `${qemu.major}.${qemu.minor}`,
    testdev: (await propertiesOf('iommu-testdev')) !== undefined,
    options: options!,
  };
}

function replyOf(line: string): Reply | undefined {
  try {
    const reply: unknown = JSON.parse(line);
    return typeof reply === 'object' && reply !== null ? reply : undefined;
  } catch {
    return undefined;
  }
}

/** Options of intel-iommu as this QEMU calls them. @throws QemuError if it has none of that name. */
export function optionsFor({ options, version }: QemuFacts, given: readonly string[]): string[] {
  return given.map(option => {
    const [name, value] = option.split('=') as [string, string];
    const names = RENAMED.find(each => each.includes(name)) ?? [name];
    const known = names.find(each => options.has(each));
    if (known === undefined)
      throw new QemuError(`QEMU ${version}: its intel-iommu has no property ${names.join(' or ')}`);
    return `${known}=${value}`;
  });
}
