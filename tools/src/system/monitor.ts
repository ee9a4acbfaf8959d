/** What monitors control: loaded when it is needed, as it is not for a test program's first commands. */
import type { Machine } from '@remora/machine';
import { ObjectStore, QmpError } from '@remora/qmp';
import { MachineTarget } from '../qmp/machine-target.js';
import type { CommandLine } from './command-line.js';
import type { Value } from './key-values.js';
import { CommandLineError } from './mistake.js';

export { serveQmp } from '@remora/qmp';

/** `machine` is undefined for `none`; `end` is called when a client asked for the end. @throws CommandLineError for a `-object` that cannot be. */
export function createMonitor(line: CommandLine, machine: Machine | undefined, end: () => void): MachineTarget {
  const { name, paused, processors, machineVersion } = line;
  return new MachineTarget(machine, {
    name,
    paused,
    processors,
    machineVersion,
    objects: objectsOf(line),
    onQuit: end,
  });
}

/** Numbers and truth are typed there; on the command line everything is text. */
function objectsOf(line: CommandLine): ObjectStore {
  const objects = new ObjectStore();
  for (const { written, values } of line.objects) {
    try {
      objects.add(Object.fromEntries(Object.entries(values).map(([name, value]) => [name, typed(name, value)])));
    } catch (failure) {
      if (!(failure instanceof QmpError)) throw failure;
      throw new CommandLineError(`${written}: ${failure.message}`);
    }
  }
  return objects;
}

const UNITS = ['b', 'k', 'm', 'g', 't'];

function typed(name: string, value: Value): Value {
  if (typeof value !== 'string' || name === 'id' || name === 'qom-type') return value;
  if (value === 'on' || value === 'off') return value === 'on';
  const [, digits, unit] = /^(\d+)([bkmgt])?$/i.exec(value) ?? [];
  return digits === undefined ? value : Number(digits) * 1024 ** UNITS.indexOf((unit ?? 'b').toLowerCase());
}
