/** `remora run MACHINE`: play its guest, and show what came of it. */
import type { MachineDefinition } from '@remora/machine';
import { eventJson, eventTree } from '../report/ledger-text.js';
import { propagationTable } from '../report/propagation-table.js';
import { close, runSteps } from './run-steps.js';
import type { Streams } from './streams.js';

export interface RunOptions {
  readonly seed: number;
  /** One ledger event a line. */
  readonly json?: boolean;
  /** Every event, not only those that cross a boundary. */
  readonly verbose?: boolean;
}

/** Returns the exit code. @throws ConfigError if the machine cannot be built. */
export function run(definition: MachineDefinition, options: RunOptions, streams: Streams): number {
  const machine = runSteps(definition, { seed: options.seed });
  const { ledger, name } = machine;
  try {
    if (options.json === true) {
      for (const event of ledger.events) streams.stdout.write(`${eventJson(event)}\n`);
    } else if (options.verbose === true) {
      streams.stdout.write(eventTree(ledger.events));
    } else if (definition.steps === undefined && definition.guest === undefined) {
      streams.stdout.write(`${definition.name} runs: ${machine.ids.join(', ')}; its guest does nothing by itself\n`);
    } else {
      streams.stdout.write(propagationTable(ledger, name, streams.stdout.columns));
    }
    return 0;
  } finally {
    close(machine);
  }
}
