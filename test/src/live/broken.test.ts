// Broken models in front of an unmodified Linux: the checks that are named for each fail.
import test from 'ava';
import { Workshop } from '../mutants/workshop.js';
import { BROKEN_MODELS } from './broken-models.js';
import { findLivePeers } from './live-peers.js';
import { bootIn } from './workshop-boot.js';

const KERNEL = '6.1';

const peers = findLivePeers(KERNEL);
const missing = 'missing' in peers ? peers.missing : undefined;
const withPeers = missing === undefined ? test.serial : test.serial.skip;

for (const { name, mode, alteration, failing } of BROKEN_MODELS) {
  withPeers(`${name}, in mode ${mode}: noticed${missing ?? ''}`, async t => {
    await using workshop = await Workshop.open([alteration], true);
    const checks = await bootIn(workshop, KERNEL, mode);
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
