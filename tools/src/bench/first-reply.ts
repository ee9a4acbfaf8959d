/** From a command line to the first qtest reply, process and all: ours and QEMU's by turns. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Comparison, Row } from './compare.js';
import { median } from './times.js';

const PROGRAM = fileURLToPath(new URL('../../bin/remora-system-x86_64', import.meta.url));
/** Both understand it. */
const MACHINE = '-M q35 -device intel-iommu -display none -accel tcg -S -qtest stdio -qtest-log none'.split(' ');
/** ECAP of the unit, at the place where q35 has it. */
const COMMAND = 'readq 0xfed90010\n';
const TITLE = 'first qtest reply';
const ROUNDS = 15;
/** Node alone takes longer to start than QEMU does to reply. */
const QEMU_TARGET = 4;
const LIMIT_MS = 400;

/** Like the works: a title, and rows. */
export const FIRST_REPLY = { title: TITLE, compare: compareFirstReplies };

async function compareFirstReplies(rounds = ROUNDS): Promise<Comparison> {
  const qemu = process.env['QEMU'] ?? 'qemu-system-x86_64';
  const hasQemu = spawnSync(qemu, ['--version']).error === undefined;
  const ours: number[] = [];
  const node: number[] = [];
  const theirs: number[] = [];
  // The first of each side finds nothing in the page cache.
  for (let round = -1; round < rounds; round++) {
    const our = await firstReply(process.execPath, [PROGRAM, ...MACHINE]);
    const bare = await firstReply(process.execPath, ['-e', 'console.log("OK")']);
    const their = hasQemu ? await firstReply(qemu, MACHINE) : undefined;
    if (round < 0) continue;
    ours.push(our);
    node.push(bare);
    if (their !== undefined) theirs.push(their);
  }
  const bound = row(`${LIMIT_MS} ms`, median(ours) / LIMIT_MS, 1);
  const times = `${TITLE}, medians of ${rounds}: ${ms(ours)} ms, Node alone ${ms(node)} ms`;
  if (!hasQemu) return { rows: [bound], skipped: [`${TITLE}: "${qemu}" does not start (set QEMU)`], notes: [times] };
  const ratio = median(ours.map((our, round) => our / theirs[round]!));
  return { rows: [row('QEMU', ratio, QEMU_TARGET), bound], skipped: [], notes: [`${times}, QEMU ${ms(theirs)} ms`] };
}

/** Milliseconds until `program` says OK. @throws Error if it ends without. */
async function firstReply(program: string, args: readonly string[]): Promise<number> {
  const start = performance.now();
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  // It may end before it reads.
  child.stdin.on('error', () => undefined);
  child.stdin.write(COMMAND);
  let said = '';
  for await (const chunk of child.stdout) {
    said += String(chunk);
    if (said.includes('OK')) break;
  }
  const time = performance.now() - start;
  child.kill('SIGKILL');
  await exited;
  if (!said.includes('OK')) throw new Error(`${program} ended without a reply: "${said}"`);
  return time;
}

function ms(values: readonly number[]): string {
  return median(values).toFixed(0);
}

function row(peer: string, ratio: number, target: number): Row {
  return { work: TITLE, peer, ratio, target, met: ratio <= target };
}
