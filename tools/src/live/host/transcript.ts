/** All that a host answers to the scripts. */
import { bindScript } from './bind-script.js';
import { containerScript } from './container-script.js';
import { deviceScript } from './device-script.js';
import { dmaScript } from './dma-script.js';
import { hwptScript } from './hwpt-script.js';
import { ioasScript } from './ioas-script.js';
import { mappingScript } from './mapping-script.js';
import type { HostRig } from './rig.js';
import { type Answer, Script } from './script.js';

/** By name, in the order in which they are run. */
export const SCRIPTS: ReadonlyMap<string, (script: Script, rig: HostRig) => void> = new Map([
  ['container', containerScript],
  ['mapping', mappingScript],
  ['device', deviceScript],
  ['dma', dmaScript],
  ['ioas', ioasScript],
  ['bind', bindScript],
  ['hwpt', hwptScript],
]);

/** What came before a script stopped short, and why it did, is an answer, too. @throws Error for a script that there is not. */
export function transcript(rig: HostRig, names: readonly string[]): Answer[] {
  const script = new Script(rig.syscalls);
  for (const name of names) {
    const run = SCRIPTS.get(name);
    if (run === undefined) throw new Error(`there is no script "${name}"`);
    try {
      run(script, rig);
    } catch (failure) {
      script.chapter(name);
      script.say('stopped', (failure as Error).message);
    }
  }
  return script.answers;
}
