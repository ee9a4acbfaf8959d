/** Programs that both sides run: abstract operations, so that any can be left out. */
import type { DeviceName } from './layout.js';

/** Of 32 bits, unsigned; the lowest first. */
type Words = readonly number[];

export type Operation =
  /** A change of a table. `then` are descriptors that make it known to the unit: they are submitted whatever happened to the queue. */
  | { readonly kind: 'memory'; readonly at: number; readonly words: Words; readonly then?: readonly Words[] }
  /** A write, and the register read back. */
  | { readonly kind: 'register'; readonly offset: number; readonly words: Words }
  /** One descriptor, or the same one `times`, submitted at once. */
  | { readonly kind: 'descriptor'; readonly words: Words; readonly times?: number }
  /** A transfer to memory (`write`) or from it; iommu-testdev writes, and compares with what is at `expected`. */
  | {
      readonly kind: 'dma';
      readonly by: DeviceName;
      readonly write: boolean;
      readonly iova: number;
      readonly expected?: number;
    }
  /** All descriptors so far become harmless ones, and the queue goes on if it had stopped. */
  | { readonly kind: 'repair' }
  /** A look at the fault status and record, which are cleared if `clear`. */
  | { readonly kind: 'faults'; readonly clear: boolean };

export interface Program {
  /** Name of the configuration. */
  readonly config: string;
  readonly seed: number;
  readonly operations: readonly Operation[];
}

/** One command. `untilIdle` waits for a transfer by the peer's means: the reply is that of reading its command register. */
export interface Line {
  /** Index of the operation; -1 before the first, and the number of operations after the last. */
  readonly of: number;
  readonly text: string;
  readonly untilIdle?: true;
}
