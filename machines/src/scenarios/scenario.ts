/** Scenarios: what a VMM and a guest do with a device that a host lends, step by step, on any of the back ends that can. */
import { ConfigError } from '@remora/core';
import type { Machine, MachineOptions } from '@remora/machine';
import type { BackEnd, LendingHost } from './back-ends.js';

/** What a step saw, as plain data: the same on every back end. */
export type Observation = Readonly<Record<string, unknown>>;

export interface ScenarioStep {
  /** A word or two. */
  readonly name: string;
  /** It assembles something, and may throw a ConfigError: then nothing of it is left. */
  readonly creates?: true;
  /** A guest's mistake, or a host's, is an observation, too; nothing but a ConfigError of a step that creates is thrown. */
  run(): Observation;
}

/** One run of a scenario. Disposing of it closes the machine; the host is the caller's. */
export interface ScenarioLife extends Disposable {
  /** They follow each other; the last one closes the machine. */
  readonly steps: readonly ScenarioStep[];
  /** Undefined before the first step, and after the last. */
  readonly machine: Machine | undefined;
}

/** Of its machine. */
export type ScenarioOptions = Pick<MachineOptions, 'interpose' | 'ledger' | 'trace'>;

export interface Scenario {
  /** `remora fail-nth NAME`. */
  readonly name: string;
  /** One line for people. */
  readonly title: string;
  readonly backEnds: readonly BackEnd[];
  /** `host` is one that hostOf made for the back end, or another that has `device`. Nothing has been done when it returns. */
  begin(host: LendingHost, backEnd: BackEnd, options?: ScenarioOptions): ScenarioLife;
}

/** All steps, one after the other, each noted in the ledger; and what each of them saw. A machine that the host refuses ends it early. */
export function runScenario(
  scenario: Scenario,
  host: LendingHost,
  backEnd: BackEnd,
  options: ScenarioOptions = {},
): Record<string, Observation> {
  using life = scenario.begin(host, backEnd, options);
  const seen: Record<string, Observation> = {};
  for (const step of life.steps) {
    try {
      if (options.ledger?.on === true) options.ledger.add(scenario.name, 'step', { name: step.name });
      seen[step.name] = step.run();
    } catch (refusal) {
      if (step.creates !== true || !(refusal instanceof ConfigError)) throw refusal;
      seen[step.name] = { refused: refusal.message };
      break;
    }
  }
  return seen;
}
