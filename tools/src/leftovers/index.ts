/**
 * Programs and folders that must not outlive this process. They go when it ends, also by SIGINT, SIGTERM or SIGHUP; programs go even when
 * it is killed, where there is a setpriv (util-linux) to ask the kernel for that.
 */
import { type ChildProcess, spawn, type SpawnOptions, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** The kernel kills who was started so, as soon as the thread that started it is gone. */
const TIED = ['setpriv', '--pdeathsig', 'KILL', '--'] as const;

const leftovers = new Set<() => void>();

function clean(): void {
  for (const each of leftovers) each();
  leftovers.clear();
}

function endBySignal(signal: NodeJS.Signals): void {
  clean();
  unwatch();
  // Whoever else listens decides whether we end; else we end as if nobody had listened.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}

function unwatch(): void {
  process.off('exit', clean);
  for (const signal of SIGNALS) process.off(signal, endBySignal);
}

/** Returns what ends the responsibility. */
function leaves(remove: () => void): () => void {
  if (leftovers.size === 0) {
    process.on('exit', clean);
    for (const signal of SIGNALS) process.on(signal, endBySignal);
  }
  leftovers.add(remove);
  return () => {
    if (leftovers.delete(remove) && leftovers.size === 0) unwatch();
  };
}

let canBeTied: boolean | undefined;

/** As spawn of node:child_process. */
export function spawnWithUs(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  canBeTied ??= spawnSync(TIED[0], [...TIED.slice(1), 'true']).status === 0;
  // What cannot be run is left to spawn, which says so.
  const child =
    canBeTied && isProgram(program)
      ? spawn(TIED[0], [...TIED.slice(1), program, ...args], options)
      : spawn(program, args, options);
  const done = leaves(() => child.kill('SIGKILL'));
  child.once('exit', done).once('error', done);
  return child;
}

function isProgram(program: string): boolean {
  const folders = program.includes('/') ? [''] : (process.env['PATH'] ?? '').split(delimiter);
  return folders.some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return statSync(join(folder, program)).isFile();
    } catch {
      return false;
    }
  });
}

/** A folder of a new name that begins with `prefix`; it goes, with all that is in it, when it is disposed of, or with us. */
export function folderWithUs(prefix: string, parent: string = tmpdir()): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(parent, prefix));
  const remove = (): void => rmSync(path, { recursive: true, force: true });
  const done = leaves(remove);
  return {
    path,
    [Symbol.dispose]: () => {
      done();
      remove();
    },
  };
}
