/** Compiling the peers, where there is a compiler. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('../../src/bench/c/', import.meta.url));

export type PeerProgram = 'translate' | 'iotlb' | 'glib' | 'vfio-user' | 'dma';

/** Compiles a peer into `folder`. Returns the program, or why there is none. @throws Error if our own source does not compile. */
export function compilePeer(program: PeerProgram, folder: string): { path: string } | { missing: string } {
  const compiler = process.env['CC'] ?? 'gcc';
  if (spawnSync(compiler, ['--version']).error !== undefined) {
    return { missing: `no C compiler: "${compiler}" does not start (set CC)` };
  }
  const flags = program === 'glib' ? glibFlags() : [];
  if (flags === undefined) return { missing: 'no GLib headers (Debian: libglib2.0-dev, pkg-config)' };
  const path = join(folder, program);
  const done = spawnSync(compiler, ['-O2', '-o', path, join(SOURCES, `${program}.c`), ...flags], { encoding: 'utf8' });
  if (done.status === 0) return { path };
  throw new Error(`the peer ${program}.c does not compile: ${done.stderr.trim()}`);
}

function glibFlags(): string[] | undefined {
  const asked = spawnSync('pkg-config', ['--cflags', '--libs', 'glib-2.0'], { encoding: 'utf8' });
  return asked.status === 0 ? asked.stdout.trim().split(/\s+/) : undefined;
}
