/** Runs a scenario on a back end, and looks at what the host holds before and after. */
import type { ExecutionContext } from 'ava';
import { Leaks } from '@remora/core';
import { type BackEnd, hostOf, type Observation, runScenario, type Scenario } from '@remora/machines';

export interface ScenarioRun {
  readonly seen: Readonly<Record<string, Observation>>;
  /** How often an ioctl of the VMM was made in a step, or in all of them. */
  calls(name: string, step?: string): number;
  /** Whether the host's kernel did this. */
  kernelDid(operation: string): boolean;
}

/** Asserts that the host holds afterwards what it held before, and that nothing is left open. */
export function lived(t: ExecutionContext, scenario: Scenario, backEnd: BackEnd, seed: number): ScenarioRun {
  return Leaks.check(() => {
    using host = hostOf(backEnd, seed);
    const { ledger } = host.platform;
    ledger.on = true;
    const before = host.platform.dump();
    const seen = runScenario(scenario, host, backEnd, { ledger });
    t.deepEqual(host.platform.dump(), before);
    let step: unknown;
    const made: { readonly step: unknown; readonly name: unknown }[] = [];
    for (const { kind, data } of ledger.events) {
      if (kind === 'step') step = data['name'];
      else if (kind === 'ioctl') made.push({ step, name: data['name'] });
    }
    const calls = (name: string, within?: string): number =>
      made.filter(call => call.name === name && (within === undefined || call.step === within)).length;
    const operations = new Set(
      ledger.events.filter(({ kind }) => kind === 'kernel').map(({ data }) => data['operation']),
    );
    return { seen, calls, kernelDid: operation => operations.has(operation) };
  });
}
