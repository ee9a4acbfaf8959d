// A boot of Linux becomes a regression test: its recording replays on the model, and not on a broken one.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { liveRecorder, liveRun, MODES, RecordingFile } from '@remora/tools/live';
import { replayFile } from '@remora/tools';
import test from 'ava';
import { replayOn } from '../mutants/judges.js';
import { LIVE_MUTANTS } from '../mutants/live-mutants.js';
import { Workshop } from '../mutants/workshop.js';
import { recordedLines } from '../replay/recorded-guest.js';
import { findLivePeers } from './live-peers.js';

const peers = findLivePeers('6.1');
const missing = 'missing' in peers ? peers.missing : undefined;
const recorded = missing === undefined ? test : test.skip;

recorded(`both boots of a Linux that reboots, recorded${missing ?? ''}`, async t => {
  if ('missing' in peers) return;
  const folder = await mkdtemp(join(tmpdir(), 'remora-live-record-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, 'boot.trace.gz');
  const mode = MODES.find(({ name }) => name === 'reboot')!;
  using file = new RecordingFile(path);
  const recorder = liveRecorder(file, mode, peers);
  const { boots } = await liveRun(
    peers,
    mode,
    () => undefined,
    () => undefined,
    make => recorder.units(make),
  );
  t.deepEqual(
    boots.flatMap(({ checks }) => checks.filter(({ ok }) => !ok)),
    [],
    'a Linux whose unit is recorded finds nothing odd',
  );
  t.is(recorder.end(), undefined);
  file.finish();

  const lines = recordedLines(path);
  t.true(lines[1]!.includes(`--mode reboot: Linux ${peers.kernel.version}, QEMU ${peers.qemuVersion}`));
  const enabled = lines.flatMap((line, at) => (/^W 018 4 8/.test(line) ? [at] : []));
  t.is(enabled.length, 2);
  t.true(lines.slice(...enabled).some(line => line.startsWith('RESET ')));

  const { differences, comparedByKind } = await replayFile(path);
  t.deepEqual(differences, []);
  const translated = boots.reduce((sum, { account }) => sum + account!.translated, 0);
  t.true(comparedByKind['T']! >= translated && translated > 0);
  t.is(comparedByKind['TF'], boots.length);

  const [deaf] = LIVE_MUTANTS;
  await using workshop = await Workshop.open(deaf!.alterations, false);
  const { right, wrong, first } = await replayOn(workshop, path);
  t.true(right > 0 && wrong > 0, deaf!.name);
  t.log(first);
});
