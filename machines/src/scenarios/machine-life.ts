/** One run of a scenario that has one machine, on a host that is the caller's. */
import type { Machine } from '@remora/machine';
import { type BackEnd, type LendingHost, machineOf } from './back-ends.js';
import type { ScenarioLife, ScenarioOptions, ScenarioStep } from './scenario.js';

export abstract class MachineLife implements ScenarioLife {
  abstract readonly steps: readonly ScenarioStep[];
  protected readonly backEnd: BackEnd;
  readonly #host: LendingHost;
  readonly #options: ScenarioOptions;
  #machine: Machine | undefined;

  constructor(host: LendingHost, backEnd: BackEnd, options: ScenarioOptions) {
    this.#host = host;
    this.backEnd = backEnd;
    this.#options = options;
  }

  get machine(): Machine | undefined {
    return this.#machine;
  }

  [Symbol.dispose](): void {
    this.#machine?.[Symbol.dispose]();
    this.#machine = undefined;
  }

  /** A new machine that runs. */
  protected startMachine(): Machine {
    const machine = machineOf(this.#host, this.backEnd, this.#options);
    machine.start();
    this.#machine = machine;
    return machine;
  }
}
