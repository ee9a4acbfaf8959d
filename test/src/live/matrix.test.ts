// An unmodified Linux on the model, in each mode: both sides are as they should be.
import { liveRun, MODES } from '@remora/tools/live';
import test from 'ava';
import { findLivePeers, type Kernel } from './live-peers.js';

/** Every mode on one, and on the other those in which the kernels differ most. */
const MATRIX: Readonly<Record<Kernel, readonly string[]>> = {
  '6.1': MODES.map(({ name }) => name),
  '7.2': ['legacy', 'strict', 'scalable', 'second-stage', 'eim', 'reboot'],
};

/** Shown of a boot that went wrong. */
const CONSOLE_LINES = 60;

for (const kernel of ['6.1', '7.2'] as const) {
  const peers = findLivePeers(kernel);
  const missing = 'missing' in peers ? peers.missing : undefined;
  const booted = missing === undefined ? test.serial : test.serial.skip;
  for (const name of MATRIX[kernel]) {
    booted(`Linux ${kernel}, ${name}${missing ?? ''}`, async t => {
      if ('missing' in peers) return;
      const mode = MODES.find(each => each.name === name)!;
      const told: string[] = [];
      const report = (text: string): unknown => told.push(text);
      const { boots, console, seconds } = await liveRun(peers, mode, () => undefined, report);
      const failed = boots.flatMap(({ checks }) => checks.filter(({ ok }) => !ok));
      if (failed.length > 0) t.log(console.slice(-CONSOLE_LINES).join('\n'));
      t.log(`${seconds.toFixed(1)} s`);
      t.deepEqual(failed, []);
      t.is(boots.length, mode.boots);
      t.deepEqual(told, []);
    });
  }
}
