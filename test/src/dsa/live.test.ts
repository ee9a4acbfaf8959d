// Linux's own driver of the accelerator, in an unmodified kernel: it binds, has a work queue of its own, and lends one to a process, whose
// addresses the device then uses.
import { cachedPeers, cacheFolder, DSA_MODES, DSA_PEERS, dsaRun, fits, missingCompiler } from '@remora/tools/live';
import test from 'ava';

const CONSOLE_LINES = 60;

for (const kernel of ['6.1', '7.2'] as const) {
  const peers = cachedPeers({ folder: cacheFolder(), kernel, ...DSA_PEERS });
  const unfetched = `"remora live --mode dsa --fetch --kernel ${kernel}" gets what it boots`;
  const missing = peers === undefined ? unfetched : missingCompiler();
  const booted = missing === undefined ? test.serial : test.serial.skip;
  const note = missing === undefined ? '' : ` (skipped: ${missing})`;
  for (const mode of DSA_MODES) {
    if (!fits(mode, kernel)) continue;
    booted(`Linux ${kernel}, idxd, ${mode.description}${note}`, async t => {
      const told: string[] = [];
      const result = await dsaRun(
        mode,
        peers!,
        () => undefined,
        text => told.push(text),
      );
      const failed = result.boots.flatMap(({ checks }) => checks).filter(({ ok }) => !ok);
      if (failed.length > 0) t.log(result.console.slice(-CONSOLE_LINES).join('\n'));
      t.log(`${result.seconds.toFixed(1)} s`);
      t.deepEqual(failed, []);
      t.deepEqual(told, []);
    });
  }
}
