/** All that a host answers to the scripts. */
import { bindScript } from './bind-script.js';
import { containerScript } from './container-script.js';
import { deviceScript } from './device-script.js';
import { dmaScript } from './dma-script.js';
import { hwptScript } from './hwpt-script.js';
import { ioasScript } from './ioas-script.js';
import { machineScript } from './machine-script.js';
import { compatScript, mappingScript } from './mapping-script.js';
import { nestedScript } from './nested-script.js';
import { requestsScript } from './requests-script.js';
import type { HostRig } from './rig.js';
import { scenarioScript } from './scenario-script.js';
import { type Answer, Script } from './script.js';

type Run = (script: Script, rig: HostRig) => void | Promise<void>;

/** Of what every kernel has that lends devices. */
const VFIO: readonly Run[] = [containerScript, mappingScript, deviceScript, dmaScript];
const IOMMUFD: readonly Run[] = [ioasScript, bindScript, compatScript, hwptScript];

/** What scripts ask for is there. */
export interface ScriptsFor {
  readonly iommufd: boolean;
  /** The unit nests: only iommufd is asked. */
  readonly nesting: boolean;
}

/** In the order in which they are run. */
export function scriptsOf({ iommufd, nesting }: ScriptsFor): readonly Run[] {
  if (nesting) return [bindScript, hwptScript, nestedScript, requestsScript, scenarioScript];
  const machines: Run = (script, rig) => machineScript(script, rig, iommufd);
  return [...VFIO, ...(iommufd ? IOMMUFD : []), machines];
}

/** What came before a script stopped short, and why it did, is an answer, too. */
export async function transcript(rig: HostRig, runs: readonly Run[]): Promise<Answer[]> {
  const script = new Script(rig.syscalls);
  for (const run of runs) {
    try {
      await run(script, rig);
    } catch (failure) {
      script.chapter(run.name);
      script.say('stopped', (failure as Error).message);
    }
  }
  return script.answers;
}
