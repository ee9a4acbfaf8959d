/** The names of QEMU's trace events for VT-d and VFIO: the committed list, and that of an installed QEMU. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const FILE = new URL('../../fixtures/trace/qemu-10.0.2.txt', import.meta.url);

export const QEMU_EVENTS: readonly string[] = readFileSync(FILE, 'utf8')
  .split('\n')
  .filter(line => line !== '' && !line.startsWith('#'));

/** As `program` lists them. */
export function eventsOf(program: string, args: readonly string[] = []): string[] {
  const { stdout } = spawnSync(program, [...args, '-trace', 'help'], { encoding: 'utf8' });
  return stdout.split('\n').filter(name => /^(vtd|vfio)_/.test(name));
}
