/** `remora diff`: random programs on the model and on a real QEMU. */
import type { CommandStreams } from '../replay/replay-command.js';
import { usesTestdev } from './compile.js';
import { configNamed, CONFIGS, type DiffConfig, machineArguments } from './configs.js';
import { diffConfig, type DiffResult } from './diff-config.js';
import { generate } from './generate.js';
import { justifiedFor } from './justified.js';
import { ModelPeer } from './peers.js';
import type { Program } from './program.js';
import { readProgram, writeLines, writeProgram } from './program-file.js';
import { QemuError } from './qemu-error.js';
import { askQemu, KNOWN_SERIES, type QemuFacts } from './qemu-facts.js';
import { QemuPeer } from './qemu-peer.js';
import { jsonReport, jsonVerdict, peerReport, textReport, textVerdict } from './report.js';
import { verdict } from './verdict.js';

export interface DiffOptions {
  /** The program to compare with. */
  readonly qemu: string;
  readonly seed: number;
  /** Programs of each configuration. */
  readonly count: number;
  readonly config?: string;
  readonly json?: boolean;
  /** A file with the only program to run. */
  readonly program?: string;
  /** Where the smallest program that differs is written to, to be run again, and its qtest lines. */
  readonly save?: string;
  readonly lines?: string;
}

const PROGRESS_INTERVAL_MS = 200;

/**
 * Returns the exit code: 0 if all agree and the quotas are reached, otherwise 1.
 * @throws RangeError, ConfigError, QemuError for what cannot be run.
 */
export async function runDiff(options: DiffOptions, streams: CommandStreams): Promise<number> {
  const given = options.program === undefined ? undefined : readProgram(options.program);
  const configs = chosen(given?.config ?? options.config);
  const facts = await askQemu(options.qemu);
  if (given !== undefined && usesTestdev(given) && !facts.testdev)
    throw new QemuError(`${options.qemu} has no iommu-testdev, which the program in ${options.program} uses`);
  if (!KNOWN_SERIES.includes(facts.series))
    streams.stderr.write(
      `remora: QEMU ${facts.version} was never compared with; known are ${KNOWN_SERIES.join(', ')}\n`,
    );
  const json = options.json === true;
  if (!json) streams.stdout.write(peerReport(facts));
  const justified = justifiedFor(facts.series);

  const results: DiffResult[] = [];
  for (const config of configs) {
    const programs = given === undefined ? random(config, options, facts) : [given];
    const done = progress(streams, config.name, options.count);
    const result = await diffOne(config, programs, { options, facts, done });
    if (streams.stderr.isTTY === true) streams.stderr.write('\r\x1b[K');
    streams.stdout.write(json ? jsonReport(result) : textReport(result));
    if (result.found !== undefined) save(options, result.found.program, config);
    results.push(result);
  }
  const differs = results.some(({ found }) => found !== undefined);
  if (given !== undefined) return differs ? 1 : 0;
  const judged = verdict(results, justified);
  streams.stdout.write(json ? jsonVerdict(facts, judged) : textVerdict(judged));
  return differs || judged.failures.length > 0 ? 1 : 0;

  function save({ save: file, lines }: DiffOptions, program: Program, config: DiffConfig): void {
    if (file !== undefined) writeProgram(file, program);
    if (lines === undefined) return;
    writeLines(lines, program);
    const args = machineArguments(config, { testdev: usesTestdev(program) });
    streams.stderr.write(`qemu-system-x86_64 ${args.join(' ')} -accel qtest -qtest stdio < ${lines}\n`);
  }
}

async function diffOne(
  config: DiffConfig,
  programs: Iterable<Program>,
  { options, facts, done }: { options: DiffOptions; facts: QemuFacts; done: (programs: number) => void },
): Promise<DiffResult> {
  await using theirs = await QemuPeer.start(config, { program: options.qemu, facts });
  await using ours = new ModelPeer(config, facts.testdev);
  return await diffConfig(config, { ours, theirs }, programs, { justified: justifiedFor(facts.series), done });
}

/** @throws RangeError for a name that there is not. */
function chosen(name: string | undefined): readonly DiffConfig[] {
  return name === undefined ? CONFIGS : [configNamed(name)];
}

function* random(config: DiffConfig, { seed, count }: DiffOptions, { testdev }: QemuFacts): Generator<Program> {
  for (let i = 0; i < count; i++) yield generate(config, seed + i, testdev);
}

function progress({ stderr }: CommandStreams, name: string, count: number): (programs: number) => void {
  let next = Date.now() + PROGRESS_INTERVAL_MS;
  return programs => {
    if (stderr.isTTY !== true || Date.now() < next) return;
    next = Date.now() + PROGRESS_INTERVAL_MS;
    stderr.write(`\r\x1b[K${name} ${programs} of ${count}`);
  };
}
