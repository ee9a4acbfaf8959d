// Our VFIO clients, and machines of ours with a lent device, on the kernel of a live guest.
import { hostRun } from '@remora/tools/live';
import test from 'ava';
import { findLivePeers } from '../live/live-peers.js';
import { koffiMissing } from '../vfio-user/koffi.js';

const KERNEL = '7.2';
/** Shown of a run that went wrong. */
const CONSOLE_LINES = 60;

const peers = findLivePeers(KERNEL);
const koffi = koffiMissing();
const missing = 'missing' in peers ? peers.missing : koffi && ` (skipped: ${koffi})`;
const booted = missing === undefined ? test.serial : test.serial.skip;

booted(`a host that is Linux ${KERNEL}${missing ?? ''}`, async t => {
  if ('missing' in peers) return;
  const { boots, console, seconds } = await hostRun(peers, () => undefined);
  const failed = boots.flatMap(({ checks }) => checks.filter(({ ok }) => !ok));
  if (failed.length > 0) t.log(console.slice(-CONSOLE_LINES).join('\n'));
  t.log(`${seconds.toFixed(1)} s`);
  t.deepEqual(failed, []);
});
