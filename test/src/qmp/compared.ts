/** remora-system-x86_64 and a real QEMU with the same command line. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { QmpClient, QmpMessage } from './qmp-client.js';
import { findQemu, REMORA, SystemProcess } from './real-qemu.js';

const DEVICES = ['intel-iommu', 'edu,id=probe,addr=05.0', 'edu,addr=06.0', 'pcie-root-port,id=rp0,addr=04.0'];
/** What most comparisons start with. */
export const ARGUMENTS: readonly string[] = [
  ...DEVICES.flatMap(device => ['-device', device]),
  ...['-object', 'memory-backend-ram,id=back,size=1M', '-name', 'compared', '-smp', '2'],
];
const found = findQemu();
/** Skips where there is no QEMU. */
export const withQemu = 'program' in found ? test : test.skip;
/** Why, for the title. */
export const because = 'missing' in found ? ` (skipped: ${found.missing})` : '';

export interface Pair {
  readonly ours: QmpClient;
  readonly theirs: QmpClient;
}

const FIRMWARE_BYTES = 0x1_0000;
const RESET_VECTOR = 0xfff0;
/** cli; hlt; and back to hlt. It touches no device, and no device that is unplugged has to wait (RCU) until it leaves its code. */
const HALT = [0xfa, 0xf4, 0xeb, 0xfd];

/** Starts both with `args`, QEMU without a firmware that would set devices up. Returns their exit statuses, if `body` made them end. */
export async function compared(
  body: (pair: Pair) => Promise<void>,
  { ends = false, args = ARGUMENTS }: { readonly ends?: boolean; readonly args?: readonly string[] } = {},
): Promise<(number | null)[]> {
  if (!('program' in found)) throw new Error(found.missing);
  const programs: SystemProcess[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'remora-qmp-'));
  const firmware = join(folder, 'firmware');
  const contents = new Uint8Array(FIRMWARE_BYTES);
  contents.set(HALT, RESET_VECTOR);
  writeFileSync(firmware, contents);
  try {
    for (const program of [REMORA, [found.program, '-bios', firmware]])
      programs.push(await SystemProcess.start(program, args));
    await body({ ours: programs[0]!.client, theirs: programs[1]!.client });
    return ends ? await Promise.all(programs.map(program => program.ended())) : [];
  } finally {
    for (const program of programs) await program.close();
    rmSync(folder, { recursive: true });
  }
}

export async function negotiate({ ours, theirs }: Pair): Promise<void> {
  for (const client of [ours, theirs]) await client.run('qmp_capabilities');
}

/** Both answers to one command, errors included. */
export async function both({ ours, theirs }: Pair, command: string, args?: object): Promise<[QmpMessage, QmpMessage]> {
  return [await ours.ask(command, args), await theirs.ask(command, args)];
}
