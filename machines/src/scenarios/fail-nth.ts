/** The scenarios as `remora fail-nth` sweeps them: each on each of its back ends. */
import type { FailurePorts, ObservedScenario, ObservedWorld } from '@remora/testing';
import { VtdUnit } from '@hw/intel-iommu';
import { type BackEnd, hostOf } from './back-ends.js';
import { MINIMUM_POINTS } from './fail-nth-points.js';
import { lend } from './lend.js';
import type { Scenario } from './scenario.js';
import { share } from './share.js';

/** Steps in which nobody is there to be told: what the host refuses to take away stays. */
const SILENT = new Set(['remove memory', 'unplug', 'exit']);

function world(scenario: Scenario, backEnd: BackEnd, ports: FailurePorts): ObservedWorld {
  const host = hostOf(backEnd, 1, {
    failures: ports.inject,
    unit: (config, environment) => new VtdUnit(config, { ...environment, memory: ports.memory(environment.memory) }),
  });
  return {
    begin: () => {
      const life = scenario.begin(host, backEnd, { interpose: syscalls => ports.syscalls(syscalls) });
      const steps = life.steps.map(step => ({
        ...step,
        ...(SILENT.has(step.name) ? { silent: true as const } : {}),
      }));
      return { steps, [Symbol.dispose]: () => life[Symbol.dispose]() };
    },
    dump: () => host.platform.dump(),
    [Symbol.dispose]: () => host[Symbol.dispose](),
  };
}

function sweepable(scenario: Scenario, backEnd: BackEnd): ObservedScenario {
  const name = `${scenario.name}/${backEnd.name}`;
  return {
    name,
    description: `${scenario.title}: ${backEnd.title}`,
    minimum: MINIMUM_POINTS[name] ?? 0,
    createWorld: ports => world(scenario, backEnd, ports),
  };
}

/** `lend/vfio-nesting` and so on. */
export const failNthScenarios: readonly ObservedScenario[] = [lend, share].flatMap(scenario =>
  scenario.backEnds.map(backEnd => sweepable(scenario, backEnd)),
);
