// Linux's own driver of the accelerator, in an unmodified kernel: it binds, has a work queue of its own, and lends one to a process, whose
// addresses the device then uses. What was done to the unit is recorded, and replays.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { replayFile } from '@remora/tools';
import {
  cachedPeers,
  cacheFolder,
  DSA_MODES,
  DSA_PEERS,
  dsaRun,
  fits,
  liveRecorder,
  missingCompiler,
  RecordingFile,
} from '@remora/tools/live';
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
      const folder = await mkdtemp(join(tmpdir(), 'remora-dsa-record-'));
      t.teardown(() => rm(folder, { recursive: true }));
      using file = new RecordingFile(join(folder, 'boot.trace'));
      const recorder = liveRecorder(file, mode, peers!);
      const result = await dsaRun(
        mode,
        peers!,
        () => undefined,
        text => told.push(text),
        make => recorder.units(make),
      );
      const failed = result.boots.flatMap(({ checks }) => checks).filter(({ ok }) => !ok);
      if (failed.length > 0) t.log(result.console.slice(-CONSOLE_LINES).join('\n'));
      t.log(`${result.seconds.toFixed(1)} s`);
      t.deepEqual(failed, []);
      t.deepEqual(told, []);

      t.is(recorder.end(), undefined);
      file.finish();
      const { differences, comparedByKind } = await replayFile(file.path);
      t.deepEqual(differences, []);
      const { account } = result.boots[0]!;
      const { A = 0, AF = 0, D = 0, PR = 0, N = 0, VC = 0, HF = 0 } = comparedByKind;
      t.deepEqual([A + AF, D], [account!.asked, account!.direct]);
      t.is(PR, account!.descriptors.get('page-group-response') ?? 0);
      const invalidations = ['device', 'device-piotlb'].map(type => account!.descriptors.get(type) ?? 0);
      t.is(N, invalidations[0]! + invalidations[1]!);
      t.deepEqual([VC > 0, HF > 0], [mode.guest === 'pasids', mode.guest === 'faults']);
    });
  }
}
