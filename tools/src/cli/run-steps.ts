/** Assembles a machine with its ledger on, starts it, and lets its guest play. */
import { guestOf, type Machine, type MachineDefinition, type MachineGuest, type MachineStep } from '@remora/machine';
import { UsageError } from './usage-error.js';

/** Kind of the ledger events under which a guest's steps stand. */
export const GUEST_STEP = 'guest-step';

export interface StepsRequest {
  readonly seed: number;
  /** The last step to run; default: all. */
  readonly until?: string | undefined;
  /** How many steps to run, instead. */
  readonly count?: number | undefined;
}

/** A machine in the middle of what its guest does. */
export interface PlayedMachine {
  readonly machine: Machine;
  /** Undefined if the machine's definition has no guest. */
  readonly guest: MachineGuest | undefined;
  /** Ids of the steps that were run. */
  readonly done: readonly string[];
}

/**
 * Returns the started machine after its steps; the caller disposes of it and of its host.
 * @throws ConfigError if it cannot be built; UsageError if there is no step `until`.
 */
export function runSteps(definition: MachineDefinition, request: StepsRequest): Machine {
  return playMachine(definition, request).machine;
}

/** As runSteps, with the guest. */
export function playMachine(definition: MachineDefinition, request: StepsRequest): PlayedMachine {
  const machine = definition.create({ seed: request.seed });
  try {
    machine.ledger.on = true;
    machine.start();
    const guest = guestOf(definition, machine, { seed: request.seed });
    const wanted = wantedSteps(definition.name, guest?.steps ?? [], request);
    playSteps(machine, wanted);
    return { machine, guest, done: wanted.map(step => step.id) };
  } catch (failure) {
    close(machine);
    throw failure;
  }
}

/** Lets the guest play `steps`, each with what it causes under it in the ledger. */
export function playSteps(machine: Machine, steps: readonly MachineStep[]): void {
  for (const step of steps) {
    const event = machine.ledger.open(machine.name, GUEST_STEP, { id: step.id, title: step.title });
    try {
      step.run();
    } finally {
      machine.ledger.close(event);
    }
  }
}

function wantedSteps(name: string, steps: readonly MachineStep[], request: StepsRequest): readonly MachineStep[] {
  const { until, count } = request;
  if (count !== undefined) {
    if (count > steps.length) throw new UsageError(`${name} has ${steps.length} steps, not ${count}`);
    return steps.slice(0, count);
  }
  if (until === undefined) return steps;
  const last = steps.findIndex(step => step.id === until);
  if (last >= 0) return steps.slice(0, last + 1);
  const expected = steps.length === 0 ? 'its guest does nothing' : `expected ${steps.map(step => step.id).join(', ')}`;
  throw new UsageError(`${name} has no step "${until}"; ${expected}`);
}

/** Closes a machine, and the host under it. */
export function close(machine: Machine): void {
  if (machine.host === undefined) machine[Symbol.dispose]();
  else machine.host[Symbol.dispose]();
}
