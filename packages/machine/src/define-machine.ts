/** Machines with a name: what `remora run NAME` and `remora run FILE.ts` start. */
import { ConfigError, type StateReader, type StateWriter } from '@remora/core';
import type { Machine } from './machine.js';

export interface MachineRequest {
  /** Moves host addresses and PASIDs; the same seed gives the same run. */
  readonly seed: number;
}

/** One thing that a machine's guest does. What it causes is recorded under it. */
export interface MachineStep {
  /** A word, to name it on the command line: `bind`. */
  readonly id: string;
  /** One line for people. */
  readonly title: string;
  run(): void;
}

/** The software of a machine's guest. */
export interface MachineGuest {
  /** What it does, in order; they run one after the other. */
  readonly steps: readonly MachineStep[];
  /** Writes what it remembers outside the machine's memory. Without it a machine can be saved, but its guest cannot go on elsewhere. */
  save?(into: StateWriter): void;
}

export interface MachineDefinition {
  /** `remora run NAME`. */
  readonly name: string;
  /** One line, for `remora --help`. */
  readonly description: string;
  /** Assembles the machine, and the host if it needs one (which is then `machine.host`). Does not start it. */
  create(request: MachineRequest): Machine;
  /** What the guest of the started machine does, in order; they run one after the other. */
  steps?(machine: Machine, request: MachineRequest): readonly MachineStep[];
  /**
   * Instead of `steps`: a guest that can be saved. It begins on a started machine; or, with `from`, it goes on where `save` left it, on a
   * machine whose state has been loaded, and touches nothing before its next step.
   */
  guest?(machine: Machine, request: MachineRequest, from?: StateReader): MachineGuest;
  /** Id of the step after which `remora walk` looks at the tables; default: the last one. */
  readonly settled?: string;
  /** Whether `remora run` replays the shipped recordings, too. */
  readonly replays?: boolean;
}

/**
 * The software of a started machine's guest, or, with `from`, where it was when it was saved; undefined if the definition has none.
 */
export function guestOf(
  definition: MachineDefinition,
  machine: Machine,
  request: MachineRequest,
  from?: StateReader,
): MachineGuest | undefined {
  if (definition.guest !== undefined) return definition.guest(machine, request, from);
  const steps = definition.steps?.(machine, request);
  return steps === undefined ? undefined : { steps };
}

/** Declares a machine; the default export of a user's own machine file. @throws ConfigError if it has no name. */
export function defineMachine(definition: MachineDefinition): MachineDefinition {
  if (!/^[a-z0-9][a-z0-9-]*$/.test(definition.name)) {
    throw new ConfigError('name', `"${definition.name}" is not a machine's name, as q35-testdev`);
  }
  return definition;
}

/**
 * The machine that a module defines: its default export, or its only named export that is a definition or a function that
 * returns a machine.
 * @throws ConfigError at `path` (the file's name) if there is none, or more than one.
 */
export function machineOf(path: string, exports: Readonly<Record<string, unknown>>): MachineDefinition {
  const candidates = 'default' in exports ? [['default', exports['default']] as const] : Object.entries(exports);
  const found = candidates.flatMap(([name, value]) => definitionOf(name, value) ?? []);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const problem = only === undefined ? 'exports no machine' : `exports ${found.length} machines`;
  throw new ConfigError(
    path,
    `${problem}: expected one default export made by defineMachine(), or a function that returns a machine`,
  );
}

function definitionOf(name: string, value: unknown): MachineDefinition | undefined {
  if (typeof value === 'function') {
    const create = value as MachineDefinition['create'];
    return { name: value.name || name, description: '', create };
  }
  const { create } = (value ?? {}) as Partial<MachineDefinition>;
  return typeof create === 'function' ? (value as MachineDefinition) : undefined;
}
