/** Assembles a machine with its ledger on, starts it, and lets its guest play. */
import { ConfigError } from '@remora/core';
import type { Machine, MachineDefinition } from '@remora/machine';
import { UsageError } from './usage-error.js';

/** Kind of the ledger events under which a guest's steps stand. */
export const GUEST_STEP = 'guest-step';

export interface StepsRequest {
  readonly seed: number;
  /** The last step to run; default: all. */
  readonly until?: string | undefined;
}

/**
 * Returns the started machine after its steps; the caller disposes of it and of its host.
 * @throws ConfigError if it cannot be built; UsageError if there is no step `until`.
 */
export function runSteps(definition: MachineDefinition, request: StepsRequest): Machine {
  const machine = definition.create({ seed: request.seed });
  try {
    machine.ledger.on = true;
    machine.start();
    const steps = definition.steps?.(machine, { seed: request.seed }) ?? [];
    const last = request.until === undefined ? steps.length - 1 : steps.findIndex(step => step.id === request.until);
    if (request.until !== undefined && last < 0) {
      throw new UsageError(
        `${definition.name} has no step "${request.until}"; expected ${steps.map(step => step.id).join(', ')}`,
      );
    }
    for (const step of steps.slice(0, last + 1)) {
      const event = machine.ledger.open(machine.name, GUEST_STEP, { id: step.id, title: step.title });
      try {
        step.run();
      } finally {
        machine.ledger.close(event);
      }
    }
    return machine;
  } catch (failure) {
    close(machine);
    throw failure;
  }
}

/** Closes a machine, and the host under it. */
export function close(machine: Machine): void {
  if (machine.host === undefined) machine[Symbol.dispose]();
  else machine.host[Symbol.dispose]();
}

/** Whether an error is a person's mistake, to be told in one line. */
export function isMistake(error: unknown): error is Error {
  return error instanceof ConfigError || error instanceof UsageError;
}
