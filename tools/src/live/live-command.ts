/** `remora live`: Linux, unmodified, on this project's devices. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SingleBar } from 'cli-progress';
import type { CommandStreams } from '../replay/replay-command.js';
import { type LiveResult, liveRun } from './live-run.js';
import { type LiveMode, MODES } from './modes.js';
import { OWN_MODES } from './own-modes.js';
import { cacheFolder } from './peers/cache-folder.js';
import { LiveError } from './peers/live-error.js';
import { makeFolder } from './peers/make-folder.js';
import { type FetchReport, findPeers } from './peers/peers.js';
import { liveRecorder, type RecordedMode } from './recorder/live-recorder.js';
import { RecordingFile } from './recorder/recording-file.js';
import { jsonReport, textReport } from './report.js';
import type { UnitsAround } from './served-unit.js';

export interface LiveOptions {
  /** A series, as `6.1`, or the path of a kernel image. */
  readonly kernel: string;
  /** Of MODES; `all` for each of them; or of OWN_MODES. */
  readonly mode: string;
  /** A folder for the consoles, which are not kept otherwise. */
  readonly keep?: string;
  /** Fetch the newest packages, whatever is there. */
  readonly update?: boolean;
  /** Fetch what is needed, and start nothing. */
  readonly fetch?: boolean;
  /** Of Debian's packages. */
  readonly mirror?: string;
  readonly json?: boolean;
  /** The file of a recording, for remora replay. */
  readonly record?: string;
}

/** Returns the exit code: 0 if every boot was as it should be, else 1. @throws LiveError, and ConfigError from a model that cannot be. */
export async function runLive(options: LiveOptions, streams: CommandStreams): Promise<number> {
  try {
    return await run(options, streams);
  } catch (failure) {
    // Of the file system: it says which file, and why.
    const { code, syscall, message } = failure as NodeJS.ErrnoException;
    if (code === undefined || syscall === undefined) throw failure;
    throw new LiveError(message, { cause: failure });
  }
}

async function run(options: LiveOptions, streams: CommandStreams): Promise<number> {
  const own = OWN_MODES.find(({ name }) => options.mode === name);
  const modes = MODES.filter(({ name }) => options.mode === 'all' || options.mode === name);
  if (modes.length === 0 && own === undefined)
    throw new LiveError(
      `--mode: "${options.mode}" is not one of ${MODES.map(({ name }) => name).join(', ')}, or all of them: all; or ${OWN_MODES.map(({ name }) => name).join(', ')}`,
    );
  const { kernel, update, mirror, record } = options;
  if (record !== undefined && modes.length > 1)
    throw new LiveError('--record: a recording is of one mode: --mode names it');
  if (record !== undefined && own?.records === false)
    throw new LiveError(`--record: mode ${own.name} is not recorded: all but ${UNRECORDED.join(' and ')} are`);
  if (options.keep !== undefined) makeFolder(options.keep, '--keep');
  using file = record === undefined ? undefined : new RecordingFile(record);
  const peers = await withBar(streams, report =>
    findPeers(
      { folder: cacheFolder(), kernel, update, mirror, ...(own === undefined ? { flavour: 'cloud' } : own.peers) },
      report,
    ),
  );
  const say = (text: string): unknown => options.json === true || streams.stdout.write(text);
  say(`QEMU ${peers.qemuVersion}, Linux ${peers.kernel.version}\n`);
  if (options.fetch === true) return 0;
  let failed = false;
  const complain = (text: string): unknown => streams.stderr.write(`remora: ${text}\n`);
  const show = (result: LiveResult): void => {
    if (streams.stderr.isTTY === true) streams.stderr.write(ERASE);
    streams.stdout.write(options.json === true ? `${jsonReport(result, peers)}\n` : textReport(result));
    if (options.keep !== undefined) keepConsole(options.keep, result);
    failed ||= result.boots.some(({ checks }) => checks.some(({ ok }) => !ok));
  };
  const recorded = async (mode: RecordedMode, run: (around: UnitsAround) => Promise<LiveResult>): Promise<void> => {
    const recorder = file && liveRecorder(file, mode, peers);
    show(await run(make => recorder?.units(make) ?? make));
    const cutOff = recorder?.end();
    file?.finish();
    if (cutOff !== undefined) complain(`${file!.path}: the recording was cut off: ${cutOff}`);
    else if (file !== undefined) say(`  recorded: remora replay ${file.path}\n`);
    failed ||= cutOff !== undefined;
  };
  if (own !== undefined) await recorded(own, around => own.run(peers, stageOn(streams, own), complain, around));
  for (const mode of modes) {
    await recorded(mode, around => liveRun(peers, mode, stageOn(streams, mode), complain, around));
  }
  return failed ? 1 : 0;
}

const UNRECORDED = OWN_MODES.filter(({ records }) => !records).map(({ name }) => name);
const ERASE = '\r\x1b[K';

function stageOn({ stderr }: CommandStreams, { name }: Pick<LiveMode, 'name'>): (text: string) => void {
  return text => {
    if (stderr.isTTY === true) stderr.write(`${ERASE}${name}: ${text} ...`);
  };
}

/** A bar on a terminal, elsewhere a line for each thing that is fetched. */
async function withBar<T>({ stderr }: CommandStreams, work: (report: FetchReport) => Promise<T>): Promise<T> {
  let current: string | undefined;
  if (stderr.isTTY !== true)
    return work(what => {
      if (what !== current) stderr.write(`fetching ${what}\n`);
      current = what;
    });
  const bar = new SingleBar({ format: '{bar} {percentage} % {what}', clearOnComplete: true, hideCursor: true });
  try {
    return await work((what, percent) => {
      if (current === undefined) bar.start(100, 0, { what });
      current = what;
      bar.update(percent, { what });
    });
  } finally {
    bar.stop();
  }
}

function keepConsole(folder: string, { mode, console, kept }: LiveResult): void {
  writeFileSync(join(folder, `${mode.name}.console`), console.map(line => `${line}\n`).join(''));
  for (const [name, text] of Object.entries(kept ?? {})) writeFileSync(join(folder, name), text);
}
