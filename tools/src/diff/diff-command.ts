/** `remora diff`: random programs on the model and on a real QEMU. */
import type { CommandStreams } from '../replay/replay-command.js';
import { compare, type Difference, type Sides } from './compare.js';
import { CONFIGS, type DiffConfig } from './configs.js';
import { Coverage } from './coverage.js';
import { generate } from './generate.js';
import { ModelPeer } from './peers.js';
import type { Program } from './program.js';
import { QemuPeer } from './qemu-peer.js';
import { jsonReport, textReport } from './report.js';
import { shrink } from './shrink.js';

export interface DiffOptions {
  /** The program to compare with. */
  readonly qemu: string;
  readonly seed: number;
  /** Programs of each configuration. */
  readonly count: number;
  readonly config?: string;
  readonly json?: boolean;
}

/** What came of one configuration. */
export interface DiffResult {
  readonly config: DiffConfig;
  readonly programs: number;
  readonly coverage: Coverage;
  /** The first difference, by the smallest program found. */
  readonly found: { readonly program: Program; readonly difference: Difference } | undefined;
}

const PROGRESS_INTERVAL_MS = 200;

/** Returns the exit code: 0 if all agree, 1 for a difference. @throws RangeError, QemuError for what cannot be run. */
export async function runDiff(options: DiffOptions, streams: CommandStreams): Promise<number> {
  const configs = CONFIGS.filter(({ name }) => options.config === undefined || options.config === name);
  if (configs.length === 0)
    throw new RangeError(`--config: "${options.config}" is not one of ${CONFIGS.map(({ name }) => name).join(', ')}`);
  let differs = false;
  for (const config of configs) {
    await using theirs = await QemuPeer.start(options.qemu, config);
    await using ours = new ModelPeer(config);
    const result = await diffConfig(config, { ours, theirs }, options, progress(streams, config.name, options.count));
    if (streams.stderr.isTTY === true) streams.stderr.write('\r\x1b[K');
    streams.stdout.write(options.json === true ? `${jsonReport(result)}\n` : textReport(result));
    differs ||= result.found !== undefined;
  }
  return differs ? 1 : 0;
}

/** Stops at the first difference. */
export async function diffConfig(
  config: DiffConfig,
  sides: Sides,
  { seed, count }: Pick<DiffOptions, 'seed' | 'count'>,
  done: (programs: number) => void = () => undefined,
): Promise<DiffResult> {
  const coverage = new Coverage();
  for (let i = 0; i < count; i++) {
    const program = generate(config, seed + i);
    const outcome = await compare(program, sides);
    if (outcome.difference !== undefined) {
      const { text } = outcome.difference.line;
      // Only the same look at the same thing: a smaller program could differ for another reason.
      const small = await shrink(program, async each => (await compare(each, sides)).difference?.line.text === text);
      const { difference } = await compare(small, sides);
      const found =
        difference === undefined ? { program, difference: outcome.difference } : { program: small, difference };
      return { config, programs: i + 1, coverage, found };
    }
    coverage.add(program, outcome);
    done(i + 1);
  }
  return { config, programs: count, coverage, found: undefined };
}

function progress({ stderr }: CommandStreams, name: string, count: number): (programs: number) => void {
  let next = Date.now() + PROGRESS_INTERVAL_MS;
  return programs => {
    if (stderr.isTTY !== true || Date.now() < next) return;
    next = Date.now() + PROGRESS_INTERVAL_MS;
    stderr.write(`\r\x1b[K${name} ${programs} of ${count}`);
  };
}
