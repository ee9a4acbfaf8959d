/** `remora restore FILE`: the machine of a state file, in this process, from the file alone; and on with what its guest was doing. */
import { StateError } from '@remora/core';
import {
  guestOf,
  loadState,
  restoreMachine,
  type MachineDefinition,
  type MachineGuest,
  type RestoredMachine,
  type StateFile,
} from '@remora/machine';
import { machines } from '@remora/machines';
import { eventJson } from '../report/ledger-text.js';
import { propagationTable } from '../report/propagation-table.js';
import { loadMachine } from './load-machine.js';
import { close, playSteps } from './run-steps.js';
import { partsWith, readStateFile } from './state-files.js';
import type { Streams } from './streams.js';
import { UsageError } from './usage-error.js';

export interface RestoreCommandOptions {
  /** Goes on with the guest's remaining steps. */
  readonly run?: boolean;
  /** The machine's own definition, by name or file: for machines with parts that are not Remora's. */
  readonly machine?: string;
  /** The host's, instead of the one that it had. */
  readonly seed?: number;
  readonly json?: boolean;
}

/** @throws UsageError, ConfigError or StateError; nothing stays open then. */
export async function restore(name: string, options: RestoreCommandOptions, streams: Streams): Promise<void> {
  const file = readStateFile(name);
  const definition = await definitionOf(file, options.machine);
  const problem = options.run === true ? whyNotOn(file, definition) : undefined;
  if (problem !== undefined) throw new UsageError(`${name}: ${problem}`);
  const restored =
    options.machine === undefined || definition === undefined
      ? fromFileAlone(file, options)
      : incoming(file, definition);
  const { machine } = restored;
  try {
    report(file, restored, options, streams);
    if (options.run === true) goOn(file, restored, definition, options, streams);
  } finally {
    close(machine);
  }
}

/**
 * The definition that was saved from, if it is one of ours, or the one that is `named`. What a state file says is never taken for the
 * name of a file to run.
 */
async function definitionOf(file: StateFile, named: string | undefined): Promise<MachineDefinition | undefined> {
  if (named !== undefined) return loadMachine(named);
  return machines.find(({ name }) => name === file.header.guest?.definition);
}

function fromFileAlone(file: StateFile, { seed }: RestoreCommandOptions): RestoredMachine {
  return restoreMachine(file, { ...partsWith(), ...(seed === undefined ? {} : { seed }) });
}

/** As QEMU's -incoming: a machine that its own definition assembles takes the state. */
function incoming(file: StateFile, definition: MachineDefinition): RestoredMachine {
  const machine = definition.create({ seed: file.header.guest?.seed ?? 1 });
  try {
    machine.start();
    return { machine, ...loadState(machine, file, { host: true }) };
  } catch (failure) {
    close(machine);
    throw failure;
  }
}

/** Why the guest cannot go on; undefined if it can. */
function whyNotOn(file: StateFile, definition: MachineDefinition | undefined): string | undefined {
  const progress = file.header.guest;
  if (progress === undefined) return 'its guest does nothing by itself';
  if (definition === undefined) {
    return `is of "${progress.definition}", which is not in Remora: name its file by --machine`;
  }
  if (progress.resumable && definition.guest !== undefined) return undefined;
  return `the guest of "${progress.definition}" cannot go on from it: its definition has no guest() with save()`;
}

function goOn(
  file: StateFile,
  { machine, guest: state }: RestoredMachine,
  definition: MachineDefinition | undefined,
  options: RestoreCommandOptions,
  streams: Streams,
): void {
  const progress = file.header.guest;
  if (progress === undefined || definition === undefined || state === undefined)
    throw new StateError(file.path, 'the state of its guest is missing');
  const guest = guestOf(definition, machine, { seed: progress.seed }, state)!;
  state.done();
  machine.ledger.on = true;
  playSteps(machine, remaining(file, progress.done, guest));
  if (options.json === true) {
    for (const event of machine.ledger.events) streams.stdout.write(`${eventJson(event)}\n`);
  } else {
    streams.stdout.write(`\n${propagationTable(machine.ledger, machine.name, streams.stdout.columns)}`);
  }
}

/** @throws StateError if the definition's steps are others than those that were done. */
function remaining(file: StateFile, done: readonly string[], { steps }: MachineGuest): MachineGuest['steps'] {
  const ids = steps.map(step => step.id);
  if (done.every((id, index) => ids[index] === id)) return steps.slice(done.length);
  throw new StateError(file.path, `its guest did ${done.join(', ')}, and the steps here are ${ids.join(', ')}`);
}

function report(
  file: StateFile,
  { machine, resumed }: RestoredMachine,
  options: RestoreCommandOptions,
  to: Streams,
): void {
  const { remora, ram, guest } = file.header;
  if (options.json === true) {
    const shown = { file: file.path, remora, machine: machine.name, pages: ram.pages, clock: machine.clock.now };
    to.stdout.write(`${JSON.stringify({ ...shown, resumed, guest: guest ?? null })}\n`);
    return;
  }
  to.stdout.write(`${machine.name} of ${file.path}: ${machine.ids.join(', ')}; ${ram.pages} pages of RAM\n`);
  const widths = [0, 1].map(column => Math.max(0, ...resumed.map(each => [each.device, each.what][column]!.length)));
  for (const { device, what, detail } of resumed) {
    to.stdout.write(`  ${device.padEnd(widths[0]!)}  ${what.padEnd(widths[1]!)}  ${detail}\n`);
  }
  if (guest !== undefined) {
    const done = guest.done.length === 0 ? 'has not begun' : `has done ${guest.done.join(', ')}`;
    to.stdout.write(`its guest (${guest.definition}) ${done}\n`);
  }
}
