/** Linux on an altered model. */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { type Check, spawnWithUs } from '@remora/tools/live';
import type { Workshop } from '../mutants/workshop.js';

const SCRIPTS = fileURLToPath(new URL('../../../tools/live', import.meta.url));

/** What `remora live` of the workshop finds in one boot. @throws Error if it comes to none. */
export async function bootIn({ folder }: Workshop, kernel: string, mode: string): Promise<Check[]> {
  await cp(SCRIPTS, join(folder, 'tools/live'), { recursive: true });
  const main = join(folder, 'tools/dist/cli/main.js');
  const child = spawnWithUs(process.execPath, [main, 'live', '--json', '--kernel', kernel, '--mode', mode], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [said, errors] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  if (said === '') throw new Error(`remora live ended early: ${errors}`);
  const { boots } = JSON.parse(said) as { boots: { checks: Check[] }[] };
  return boots.flatMap(({ checks }) => checks);
}
