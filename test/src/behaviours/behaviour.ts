import type { Rig, RigOptions } from '../rig/rig.js';

/** Makes the rig of one run; whoever runs the behaviour closes it. */
export type MakeRig = (options?: RigOptions) => Rig;

/** One row of vsva.md section 7. It throws an AssertionError unless the host saw exactly what the row says. */
export interface Behaviour {
  readonly number: number;
  readonly title: string;
  run(make: MakeRig): void;
}

/** Words that are not 0 would be read as an address of a table: a root that no table has. */
export const ROOT = 0x12_3456_7000;
export const OTHER_ROOT = 0x45_6789_a000;
