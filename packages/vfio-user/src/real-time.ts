/** Moves a virtual clock with the time that passes outside: a guest in somebody else's virtual machine waits in real time. */
import type { VirtualClock } from '@remora/core';

const NS_PER_MS = 1_000_000;
/** Timers of the runtime take no longer delays. */
const LONGEST_MS = 2 ** 31 - 1;

export class RealTime implements Disposable {
  readonly #clock: VirtualClock;
  readonly #failed: (failure: unknown) => void;
  /** What the clock showed, and the runtime's, when this began. */
  readonly #epoch: number;
  readonly #start = performance.now();
  #timer: NodeJS.Timeout | undefined;
  /** When #timer is due, on the clock. */
  #due = Infinity;

  /** `failed` takes what a device's timer throws. */
  constructor(clock: VirtualClock, failed: (failure: unknown) => void) {
    this.#clock = clock;
    this.#failed = failed;
    this.#epoch = clock.now;
  }

  /** The clock takes over the time that has passed; what is due fires. */
  advance(): void {
    const now = this.#epoch + Math.floor((performance.now() - this.#start) * NS_PER_MS);
    if (now > this.#clock.now) this.#clock.set(now);
  }

  /** Sees to it that the next timer fires when it is due. To be called when the device may have set one. */
  arm(): void {
    const next = this.#clock.next() ?? Infinity;
    if (next === this.#due) return;
    clearTimeout(this.#timer);
    this.#due = next;
    if (next === Infinity) return;
    const delay = Math.ceil((next - this.#clock.now) / NS_PER_MS);
    this.#timer = setTimeout(() => this.#fire(), Math.min(delay, LONGEST_MS));
  }

  #fire(): void {
    this.#due = Infinity;
    try {
      this.advance();
    } catch (failure) {
      this.#failed(failure);
    }
    this.arm();
  }

  /** Time stands still from now on. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#due = Infinity;
  }
}
