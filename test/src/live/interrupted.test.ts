// A live run that does not come to its end: nothing is left of it.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { spawnWithUs } from '@remora/tools/live';
import test from 'ava';
import { runs } from '../rig/processes.js';
import { findLivePeers } from './live-peers.js';

const COMMAND = fileURLToPath(new URL('../../../tools/bin/remora.js', import.meta.url));
const POLL_MS = 20;

const peers = findLivePeers('6.1');
const missing = 'missing' in peers ? peers.missing : '';
const booted = missing === '' ? test.serial : test.serial.skip;

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly errors: string;
  /** Names in its temporary folder, and the guest's memory, wherever that was. */
  readonly left: readonly string[];
}

/** Starts a run, does something to it as soon as its QEMU is there, and waits until both are gone. */
async function interrupted(act: (remora: ChildProcess, qemu: number) => void): Promise<Ended> {
  const folder = mkdtempSync(join(tmpdir(), 'remora-interrupted-'));
  try {
    const remora = spawnWithUs(process.execPath, [COMMAND, 'live', '--mode', 'pt'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, TMPDIR: folder },
    });
    const exit = once(remora, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    const errors = text(remora.stderr!);
    const qemu = await childOf(remora.pid!);
    const memory = /mem-path=([^\0]*)/.exec(contents(`/proc/${qemu}/cmdline`))![1]!;
    act(remora, qemu);
    const [code, signal] = await exit;
    while (runs(qemu)) await soon();
    const left = [...readdirSync(folder), ...(existsSync(dirname(memory)) ? ['memory'] : [])];
    // Who is killed removes nothing.
    rmSync(dirname(memory), { recursive: true, force: true });
    return { code, signal, errors: await errors, left };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Its QEMU, once that has been started in the place of setpriv. */
async function childOf(pid: number): Promise<number> {
  for (;;) {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    const command = child ? contents(`/proc/${child}/cmdline`) : '';
    // Setpriv is told what to become, too.
    if (/^(?!setpriv\0).*qemu-system/s.test(command)) return Number(child);
    await soon();
  }
}

function contents(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function soon(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, POLL_MS));
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  booted(`${signal}: QEMU ends, and no folder is left${missing}`, async t => {
    t.like(await interrupted(remora => remora.kill(signal)), { code: null, signal, left: [] });
  });
}

booted(`remora live is killed: QEMU ends${missing}`, async t => {
  t.like(await interrupted(remora => remora.kill('SIGKILL')), { code: null, signal: 'SIGKILL' });
});

booted(`QEMU is killed: that is said${missing}`, async t => {
  t.deepEqual(await interrupted((_, qemu) => process.kill(qemu, 'SIGKILL')), {
    code: 2,
    signal: null,
    errors: 'remora: QEMU ended: by SIGKILL\n',
    left: [],
  });
});
