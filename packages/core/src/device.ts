import type { Inspector } from './inspector.js';

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
}
