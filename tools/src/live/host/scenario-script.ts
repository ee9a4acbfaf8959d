/** The scenarios of every back end, on those that this host has: a VMM, its guest with a vIOMMU, and a device that is lent. */
import { ConfigError } from '@remora/core';
import { type BackEnd, backEnds, scenarios } from '@remora/machines';
import { ENGINE, type HostRig } from './rig.js';
import type { Output, Script } from './script.js';

/** By scenario. */
const RUNS: readonly (readonly [string, string])[] = [
  ['lend', 'vfio-type1v2'],
  ['lend', 'iommufd'],
  ['share', 'iommufd-nested'],
];

export async function scenarioScript(script: Script, rig: HostRig): Promise<void> {
  for (const [name, backEnd] of RUNS) {
    script.chapter(`${name} by ${backEnd}`);
    const found = backEnds.find(each => each.name === backEnd)!;
    // A step is over before a request could come by way of an event loop.
    await played(script, rig, name, { ...found, device: ENGINE, pageRequests: false });
  }
}

async function played(script: Script, rig: HostRig, name: string, backEnd: BackEnd): Promise<void> {
  using life = scenarios.get(name)!.begin(rig.host, backEnd);
  for (const step of life.steps) {
    try {
      script.say(step.name, 0, settled(step.run()));
    } catch (refusal) {
      if (!(refusal instanceof ConfigError)) throw refusal;
      script.say(step.name, refusal.message);
      return;
    }
    await rig.pause();
  }
}

/** Without what a device does not know yet that still waits for a page when it is asked. */
function settled(seen: object): Output {
  return JSON.parse(
    JSON.stringify(seen, (key, value: unknown) => (key === 'failedWrite' ? undefined : value)),
  ) as Output;
}
