/** The root file system of a live guest: busybox, one script, and what else is asked for. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { folderWithUs } from '../leftovers/index.js';
import { LiveError } from './peers/live-error.js';

const script = (name: string): string => fileURLToPath(new URL(`../../live/${name}`, import.meta.url));
/** What is in every guest: its program begins with the second. */
const COMMON = { init: script('init.sh'), 'lib/guest.sh': script('guest.sh') };
const EXECUTABLE = 0o755;
const MAX_BYTES = 2 ** 28;

/** An archive as Linux takes it, packed or `plain`. `files` are sources by their paths in the guest. @throws LiveError */
export function buildInitramfs(
  busybox: string,
  files: Readonly<Record<string, string>> = {},
  form: 'packed' | 'plain' = 'packed',
): Uint8Array {
  using work = folderWithUs('remora-initramfs-');
  const folder = work.path;
  for (const [path, source] of Object.entries({ 'bin/busybox': busybox, ...COMMON, ...files })) {
    const target = join(folder, path);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(source, target);
    chmodSync(target, EXECUTABLE);
  }
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const { status, stdout, stderr } = spawnSync(busybox, ['cpio', '-o', '-H', 'newc'], {
    cwd: folder,
    input: names.map(name => `${name}\n`).join(''),
    maxBuffer: MAX_BYTES,
  });
  if (status !== 0) throw new LiveError(`busybox cpio: ${String(stderr).trim() || 'failed'}`);
  return form === 'plain' ? stdout : gzipSync(stdout);
}
