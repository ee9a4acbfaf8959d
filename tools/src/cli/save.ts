/** `remora save MACHINE FILE`: play its guest as far as asked, and write the machine's state to a file. */
import { saveState, type MachineDefinition } from '@remora/machine';
import { close, playMachine } from './run-steps.js';
import { writeStateFile } from './state-files.js';
import type { Streams } from './streams.js';
import { UsageError } from './usage-error.js';

export interface SaveOptions {
  readonly file: string;
  readonly seed: number;
  /** The last step to run. */
  readonly after?: string;
  /** How many steps to run. */
  readonly steps?: number;
  readonly json?: boolean;
}

/** @throws ConfigError, StateError or UsageError, in which case no file is written. */
export function save(definition: MachineDefinition, options: SaveOptions, streams: Streams): void {
  const { file, seed, after, steps } = options;
  if (after !== undefined && steps !== undefined) throw new UsageError('--after and --steps exclude each other');
  const { machine, guest, done } = playMachine(definition, { seed, until: after, count: steps });
  try {
    const progress = { definition: definition.name, seed, done };
    const bytes = saveState(machine, guest === undefined ? undefined : { progress, guest });
    writeStateFile(file, bytes);
    const total = guest?.steps.length ?? 0;
    const resumable = guest?.save !== undefined;
    if (options.json === true) {
      streams.stdout.write(`${JSON.stringify({ file, bytes: bytes.length, done, steps: total, resumable })}\n`);
      return;
    }
    const point = total === 0 ? '' : `, ${done.length} of ${total} steps done`;
    streams.stdout.write(`${file}: ${definition.name}${point}, ${bytes.length} bytes\n`);
    if (total > 0 && !resumable)
      streams.stdout.write(`its guest cannot go on from there: see MachineDefinition.guest\n`);
  } finally {
    close(machine);
  }
}
