// Broken models in front of an unmodified Linux: the checks that are named for each fail.
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { type Check, spawnWithUs } from '@remora/tools/live';
import test from 'ava';
import { Workshop } from '../mutants/workshop.js';
import { BROKEN_MODELS } from './broken-models.js';
import { findLivePeers } from './live-peers.js';

const KERNEL = '6.1';
const SCRIPTS = fileURLToPath(new URL('../../../tools/live', import.meta.url));

const peers = findLivePeers(KERNEL);
const missing = 'missing' in peers ? peers.missing : undefined;
const withPeers = missing === undefined ? test.serial : test.serial.skip;

for (const { name, mode, alteration, failing } of BROKEN_MODELS) {
  withPeers(`${name}, in mode ${mode}: noticed${missing ?? ''}`, async t => {
    await using workshop = await Workshop.open([alteration], true);
    await cp(SCRIPTS, join(workshop.folder, 'tools/live'), { recursive: true });
    const checks = await boot(workshop, mode);
    t.log(
      checks
        .filter(({ ok }) => !ok)
        .map(({ name: check, found }) => `${check}: ${found}`)
        .join('\n'),
    );
    const failed = checks.filter(({ ok }) => !ok).map(each => each.name);
    if (failing.includes('finished')) {
      t.deepEqual(
        [...failing].filter(each => !failed.includes(each)),
        [],
      );
      t.is(failed.includes('awake'), failing.includes('awake'));
    } else t.deepEqual(failed, failing);
  });
}

/** What `remora live` of the workshop finds in one boot. */
async function boot({ folder }: Workshop, mode: string): Promise<Check[]> {
  const main = join(folder, 'tools/dist/cli/main.js');
  const child = spawnWithUs(process.execPath, [main, 'live', '--json', '--kernel', KERNEL, '--mode', mode], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [said, errors] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  if (said === '') throw new Error(`remora live ended early: ${errors}`);
  const { boots } = JSON.parse(said) as { boots: { checks: Check[] }[] };
  return boots.flatMap(({ checks }) => checks);
}
