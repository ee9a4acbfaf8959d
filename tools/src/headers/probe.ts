/** Compiles the C probe and runs it. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Facts, ForeignAbi, parseFacts } from './facts.js';

export interface ProbeOptions {
  /** Folder of probe.c and rfc.h. */
  readonly sources: string;
  /** C compiler. */
  readonly compiler: string;
  /** Folders to search for linux/vfio.h before the system's. */
  readonly includes?: readonly string[] | undefined;
  /** Leave the kernel's headers out even if they are installed. */
  readonly withoutLinux?: boolean | undefined;
}

export interface Probed {
  readonly facts: Facts;
  /** The sources after the preprocessor: what the headers say in C. */
  readonly preprocessed: string;
}

/** Why nothing can be checked here; not the fault of any declaration. */
export class CannotProbe extends Error {
  override readonly name = 'CannotProbe';
}

/** The headers lack something that the probe names, or contradict it. */
export class ProbeRejected extends Error {
  override readonly name = 'ProbeRejected';
}

const MAX_OUTPUT = 64 * 1024 * 1024;

/** @throws CannotProbe, ProbeRejected */
export function runProbe(options: ProbeOptions): Probed {
  const source = join(options.sources, 'probe.c');
  if (!existsSync(source)) throw new CannotProbe('the C sources of the probe are only in the repository');
  const folder = mkdtempSync(join(tmpdir(), 'remora-headers-'));
  try {
    const flags = ['-std=gnu11', '-w', ...(options.includes ?? []).flatMap(include => ['-I', include])];
    if (options.withoutLinux === true) flags.push('-DREMORA_NO_LINUX');
    const program = join(folder, 'probe');
    compile(options.compiler, [...flags, source, '-o', program]);
    const preprocessed = compile(options.compiler, [...flags, '-E', '-P', source]);
    return { facts: run(program), preprocessed };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function compile(compiler: string, args: readonly string[]): string {
  const done = spawnSync(compiler, args, { encoding: 'utf8', maxBuffer: MAX_OUTPUT });
  if (done.error !== undefined) throw new CannotProbe(`no C compiler: "${compiler}" does not start (set CC)`);
  if (done.status !== 0) {
    if (/fatal error: '?(stddef|stdint|stdio|string)\.h/.test(done.stderr)) {
      throw new CannotProbe(`"${compiler}" has no C library to compile with (Debian: libc6-dev)`);
    }
    const problem = done.stderr.split('\n').find(line => line.includes('error:')) ?? done.stderr.trim();
    throw new ProbeRejected(`the probe does not compile: ${problem.replace(/^.*?(?=[^/\s]+:\d+:)/, '')}`);
  }
  return done.stdout;
}

function run(program: string): Facts {
  const done = spawnSync(program, { encoding: 'utf8', maxBuffer: MAX_OUTPUT });
  if (done.error !== undefined || done.status !== 0)
    throw new CannotProbe('what the compiler builds does not run here');
  try {
    return parseFacts(done.stdout);
  } catch (error) {
    if (error instanceof ForeignAbi) throw new CannotProbe(error.message);
    throw error;
  }
}
