// Children and folders of a process that ends, in one way or another.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import test from 'ava';
import { folderWithUs, spawnWithUs } from './index.js';

const POLL_MS = 10;
const LEFTOVERS = new URL('index.js', import.meta.url).href;

/** A process with a child and a folder, which then does what `then` says. The kernel is asked to kill the child before that becomes `sleep`. */
const script = (then: string): string => `
  import { readFileSync } from 'node:fs';
  import { folderWithUs, spawnWithUs } from ${JSON.stringify(LEFTOVERS)};
  const folder = folderWithUs('remora-leftovers-');
  const child = spawnWithUs('sleep', ['1000'], { stdio: 'ignore' });
  while (readFileSync(\`/proc/\${child.pid}/comm\`, 'utf8') !== 'sleep\\n') await new Promise(resolve => setTimeout(resolve, ${POLL_MS}));
  console.log(JSON.stringify({ child: child.pid, folder: folder.path }));
  ${then}`;

/** Whether it runs; a zombie that nobody has waited for does not. */
function runs(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function ended(pid: number): Promise<void> {
  while (runs(pid)) await new Promise(resolve => setTimeout(resolve, POLL_MS));
}

interface Left {
  /** The signal that ended it. */
  readonly by: NodeJS.Signals | null;
  readonly folder: boolean;
}

/** Runs such a process, and waits until its child has ended. */
async function run(then: string, signal: NodeJS.Signals | undefined): Promise<Left> {
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', script(then)], {
    ...{ timeout: 120_000, killSignal: 'SIGKILL' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exit = once(parent, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const [line] = (await once(createInterface(parent.stdout), 'line')) as [string];
  const { child, folder } = JSON.parse(line) as { child: number; folder: string };
  if (signal !== undefined) parent.kill(signal);
  const [, by] = await exit;
  await ended(child);
  const left = existsSync(folder);
  rmSync(folder, { recursive: true, force: true });
  return { by, folder: left };
}

const WAITS = 'setInterval(() => undefined, 1000);';

for (const [how, then] of [
  ['comes to its end', 'child.unref();'],
  ['exits', 'process.exit(3);'],
  ['throws', 'throw new Error("once");'],
] as const) {
  test(`nothing is left of a process that ${how}`, async t => {
    t.deepEqual(await run(then, undefined), { by: null, folder: false });
  });
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`nothing is left by ${signal}, and the process ends of it as if nobody had listened`, async t => {
    t.deepEqual(await run(WAITS, signal), { by: signal, folder: false });
  });
}

test('children end with a process that is killed; it cannot remove its folders', async t => {
  t.deepEqual(await run(WAITS, 'SIGKILL'), { by: 'SIGKILL', folder: true });
});

// While no other test leaves anything.
test.serial('signals have no listeners of ours when nothing can be left', async t => {
  const before = process.listenerCount('SIGTERM');
  {
    using folder = folderWithUs('remora-leftovers-');
    t.true(existsSync(folder.path));
    const child = spawnWithUs('true', [], { stdio: 'ignore' });
    await once(child, 'exit');
    t.is(process.listenerCount('SIGTERM'), before + 1);
  }
  t.is(process.listenerCount('SIGTERM'), before);
});

test('a program that is not there is an error of spawn', async t => {
  const child = spawnWithUs('/nowhere/program', [], { stdio: 'ignore' });
  const [failure] = (await once(child, 'error')) as [NodeJS.ErrnoException];
  t.is(failure.code, 'ENOENT');
});
