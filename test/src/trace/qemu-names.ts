/** The names of QEMU's trace events for VT-d and VFIO: the committed list, and that of an installed QEMU. */
import { readFileSync } from 'node:fs';
import { runSync } from '../rig/processes.js';

const FILE = new URL('../../fixtures/trace/qemu-10.0.2.txt', import.meta.url);

export const QEMU_EVENTS: readonly string[] = readFileSync(FILE, 'utf8')
  .split('\n')
  .filter(line => line !== '' && !line.startsWith('#'));

/** As `program` lists them. */
export function eventsOf(program: string, args: readonly string[] = []): string[] {
  const { stdout } = runSync(program, [...args, '-trace', 'help']);
  return stdout.split('\n').filter(name => /^(vtd|vfio)_/.test(name));
}
