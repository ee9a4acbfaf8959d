import type { Inspector } from './inspector.js';
import type { StateReader } from './state/state-reader.js';
import type { StateWriter } from './state/state-writer.js';

/**
 * The phases of a reset, each of which all devices pass before the next one begins. QEMU: ResettablePhases.
 *
 * - `enter`: own state is reset; nothing is called outside, and DMA in flight is cancelled.
 * - `hold`: what has an effect on others, such as interrupt lines, takes its reset value.
 * - `exit`: the device leaves reset and may act again. IOMMUs reset here, so that no stray DMA of a device faults.
 */
export type ResetPhase = 'enter' | 'hold' | 'exit';

export const RESET_PHASES: readonly ResetPhase[] = ['enter', 'hold', 'exit'];

/**
 * A device model: a plain class. Its constructor only stores what it is given; everything that others can see begins in `realize`.
 * `Lifecycle` calls these methods in legal order.
 */
export interface Device extends Disposable {
  /** The id in its machine. */
  readonly name: string;
  /**
   * Becomes visible: maps regions, plugs functions, opens the host.
   * @throws ConfigError if that cannot be; the device has then undone what it began.
   */
  realize?(): void;
  /** Called for each phase of each reset, only while realized. */
  reset?(phase: ResetPhase): void;
  /** Hot removal, while buses and contexts are still alive: becomes invisible, stops DMA, gives back what the host lent. */
  unplug?(): void;
  /** Shows the state to people. Changes nothing. */
  inspect?(into: Inspector): void;
  /** Newest version of what `save` writes; default 1. */
  readonly stateVersion?: number;
  /**
   * Writes whatever of its state software or the outside can tell, between two accesses: nothing is in the middle of anything. Its
   * functions' configuration space, MSI and MSI-X are not its business: the machine saves them. Changes nothing. A device without `save`
   * and `load` cannot be saved, and neither can its machine; one without state has both, and they do nothing.
   * @throws StateError if it cannot be saved now.
   */
  save?(into: StateWriter): void;
  /**
   * Takes the state that `save` wrote. The device is realized and was reset; RAM, configuration spaces and the devices realized
   * before it have been loaded. Sets own state and arms own timers; calls nothing outside.
   * @throws StateError for what cannot be; the machine is reset then.
   */
  load?(from: StateReader): void;
  /**
   * Called in order of realization once every device has loaded: what the device had established outside, at a host, is established
   * again. Returns what that was.
   * @throws StateError if it cannot be.
   */
  resume?(): readonly Resumed[];
}

/** Something that stands again outside the machine: a line for people. */
export interface Resumed {
  /** A word or two: `PASID`, `binding`. */
  readonly what: string;
  readonly detail: string;
}
