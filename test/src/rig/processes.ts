/** Programs that tests run as processes of their own. One that hangs fails its own test, by name, before AVA gives up on all of them. */
import { execFile, spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
/** Where people work in a clone. */
const MY_VMS = join(REPOSITORY, 'my-vms');
const MAX_OUTPUT = 2 ** 26;

/** For spawn: nothing here takes as long. AVA waits ten minutes for any test to end. */
export const MORTAL = { timeout: 240_000, killSignal: 'SIGKILL' } as const;

/** Runs `program` to its end. @throws Error if it comes to none. */
export function runSync(program: string, args: readonly string[], input = ''): SpawnSyncReturns<string> {
  const ended = spawnSync(program, args, { ...MORTAL, input, encoding: 'utf8', maxBuffer: MAX_OUTPUT });
  const { error } = ended;
  if (error !== undefined && (error as NodeJS.ErrnoException).code === 'ETIMEDOUT') throw error;
  return ended;
}

export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs Node to its end; the event loop goes on meanwhile. Rejects if it comes to none. */
export function node(...args: string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, args, { ...MORTAL, maxBuffer: MAX_OUTPUT }, (error, stdout, stderr) => {
      if (error?.killed === true) reject(error);
      else resolve({ exitCode: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

/** The `remora` command. */
export function remora(...args: string[]): Promise<Ended> {
  return node(join(REPOSITORY, 'tools/bin/remora.js'), ...args);
}

/** Whether process `pid` runs; a zombie that nobody has waited for does not. */
export function runs(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** A folder inside the repository, so that machine files in it find Remora; it goes with the test. Others may copy what is compiled meanwhile. */
export function folderInRepository(t: ExecutionContext, prefix: string): string {
  mkdirSync(MY_VMS, { recursive: true });
  const folder = mkdtempSync(join(MY_VMS, prefix));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
