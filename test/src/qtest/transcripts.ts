/** Recorded sessions of QEMU's qtest programs, and their replay on something that answers. */
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

export interface Exchange {
  readonly command: string;
  readonly reply: string;
}

export interface Transcript {
  readonly name: string;
  /** The test's own command line. */
  readonly args: readonly string[];
  readonly exchanges: readonly Exchange[];
  /** Before which exchanges the monitor was sent `system_reset`: the registers are as after reset from there on. */
  readonly resets: readonly number[];
}

/** The monitor's commands are not recorded. */
const RESETS: Readonly<Record<string, readonly number[]>> = {
  'intel-iommu-test.1': [4],
  'q35-test.1': [27],
  'q35-test.2': [1552],
};

const FOLDER = new URL('../../fixtures/qtest/', import.meta.url);

export const transcripts: readonly Transcript[] = readdirSync(FOLDER)
  .filter(file => file.endsWith('.txt.gz'))
  .sort()
  .map(file => read(file));

function read(file: string): Transcript {
  const [head = '', ...lines] = gunzipSync(readFileSync(new URL(file, FOLDER)))
    .toString()
    .trim()
    .split('\n');
  const name = file.slice(0, -'.txt.gz'.length);
  const exchanges: Exchange[] = [];
  for (let i = 0; i < lines.length; i += 2) {
    exchanges.push({ command: lines[i]!.replace(/^> /, ''), reply: lines[i + 1]!.replace(/^< /, '') });
  }
  return { name, args: head.split('arguments: ')[1]!.split(' '), exchanges, resets: RESETS[name] ?? [] };
}

/** What answers: a session in this process, or a program. */
export interface Answering {
  ask(command: string): string | Promise<string>;
  reset(): void | Promise<void>;
}

/** A reply that is not the recorded one. */
export interface Difference {
  /** What CONFIG_ADDRESS holds, if the command reads configuration space. */
  readonly at: string | undefined;
  readonly command: string;
  readonly recorded: string;
  readonly here: string;
}

export async function replay(transcript: Transcript, on: Answering): Promise<Difference[]> {
  const differences: Difference[] = [];
  let address = '';
  for (const [index, { command, reply }] of transcript.exchanges.entries()) {
    if (transcript.resets.includes(index)) await on.reset();
    if (command.startsWith('outl 0xcf8 ')) address = command.slice('outl 0xcf8 '.length);
    const here = await on.ask(command);
    const at = command.includes('0xcfc') ? address : undefined;
    if (here !== reply) differences.push({ at, command, recorded: reply, here });
  }
  return differences;
}

/** Differences that only name what QEMU's board has beside the devices that are tested. */
export const BOARD_DIFFERENCES: readonly (Difference & { readonly why: string })[] = [
  vendor('0x80000800', '0x1234', "00:01.0 is QEMU's default VGA adapter; here its slot is free"),
  vendor('0x8000f800', '0x8086', '00:1f.0 is the ICH9 LPC bridge; here its slot is free'),
  vendor('0x8000fa00', '0x8086', '00:1f.2 is the ICH9 SATA controller; here its slot is free'),
  vendor('0x8000fb00', '0x8086', '00:1f.3 is the ICH9 SMBus controller; here its slot is free'),
];

function vendor(at: string, recorded: string, why: string): Difference & { readonly why: string } {
  return { at, command: 'inw 0xcfc', recorded: `OK ${recorded}`, here: 'OK 0xffff', why };
}

export function isListed(found: Difference): boolean {
  return BOARD_DIFFERENCES.some(
    ({ at, command, recorded, here }) =>
      at === found.at && command === found.command && recorded === found.recorded && here === found.here,
  );
}
