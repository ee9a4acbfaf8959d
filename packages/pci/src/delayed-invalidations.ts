/** Invalidations that a slow device TLB has not done yet: each is done a fixed time after it arrived. */
import type { Timer, VirtualClock } from '@remora/core';

/** Does an invalidation; the parameters are those of AtsEndpoint.invalidate. */
export type Invalidate = (
  pasid: number,
  global: boolean,
  hi: number,
  lo: number,
  shift: number,
  completed: () => void,
) => void;

export class DelayedInvalidations {
  readonly #clock: VirtualClock;
  readonly #latency: number;
  readonly #invalidate: Invalidate;
  readonly #timers = new Set<Timer>();

  /** `latency` in nanoseconds. */
  constructor(clock: VirtualClock, latency: number, invalidate: Invalidate) {
    this.#clock = clock;
    this.#latency = latency;
    this.#invalidate = invalidate;
  }

  add(...invalidation: Parameters<Invalidate>): void {
    const timer = this.#clock.after(this.#latency, () => {
      this.#timers.delete(timer);
      this.#invalidate(...invalidation);
    });
    this.#timers.add(timer);
  }

  /** Whether any is yet to be done. */
  get pending(): boolean {
    return this.#timers.size > 0;
  }

  /** None of them will be done. */
  forget(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }
}
