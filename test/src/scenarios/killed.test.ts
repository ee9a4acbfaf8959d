/** VMMs that die without a word, on every back end: their descriptors close, and the host takes back what they held. */
import test from 'ava';
import { Leaks } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import type { HostProcess } from '@remora/host-sim';
import {
  type BackEnd,
  backEnds,
  hostOf,
  machineOf,
  runScenario,
  type Scenario,
  scenarios,
  SECOND_ENGINE,
} from '@remora/machines';

const PAGE = 4096;

/** Lives the first `steps` steps, then the VMM's process is killed. What the machine does afterwards, it does on no host. */
function killedAfter(steps: number, scenario: Scenario, host: ReturnType<typeof hostOf>, backEnd: BackEnd): void {
  let process: HostProcess | undefined;
  const interpose = (syscalls: HostSyscalls): HostSyscalls => (process = syscalls as HostProcess);
  using life = scenario.begin(host, backEnd, { interpose });
  for (const step of life.steps.slice(0, steps)) step.run();
  process![Symbol.dispose]();
}

for (const scenario of scenarios.values()) {
  for (const backEnd of scenario.backEnds) {
    test(`${scenario.name}, ${backEnd.name}: killed after each step, it leaves nothing; the next VM lives as the first would`, t => {
      Leaks.check(() => {
        using host = hostOf(backEnd);
        const before = host.platform.dump();
        const undisturbed = runScenario(scenario, host, backEnd);
        const names = Object.keys(undisturbed);
        for (let steps = 1; steps < names.length; steps++) {
          killedAfter(steps, scenario, host, backEnd);
          t.deepEqual(host.platform.dump(), before, `after ${names[steps - 1]}`);
        }
        t.deepEqual(runScenario(scenario, host, backEnd), undisturbed);
      });
    });
  }
}

const here = backEnds.filter(({ kernel }) => Object.keys(kernel).length === 0);
for (const lasting of here) {
  for (const dying of here) {
    test(`a VM on ${dying.name} is killed: its neighbour on ${lasting.name} goes on`, t => {
      using host = hostOf(dying, 3);
      const iommufd = lasting.iommufd ? ',iommufd=iommufd0' : '';
      using machine = machineOf(host, lasting, {
        name: 'lasting',
        devices: [`vfio-pci,host=${SECOND_ENGINE},addr=03.0${iommufd}`],
      });
      machine.start();
      const neighbour = host.platform.dump();
      const engine = host.platform.function(SECOND_ENGINE);
      engine.config.write(4, 6, 2);
      const reaches = (frame: number, value: number): void => {
        t.is(engine.dma.write(0, frame * PAGE, Uint8Array.of(value)), 0);
        const found = new Uint8Array(1);
        machine.memory.read(0, frame * PAGE, found);
        t.is(found[0], value);
      };
      reaches(0x300, 1);
      const scenario = scenarios.get('lend')!;
      for (const steps of [1, 7]) killedAfter(steps, scenario, host, dying);
      reaches(0x300, 2);
      reaches(0x301, 3);
      engine.config.write(4, 0, 2);
      t.deepEqual(host.platform.dump(), neighbour);
    });
  }
}
