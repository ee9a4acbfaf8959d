/** Invalidations that a slow device TLB has not done yet: each is done a fixed time after it arrived. */
import { NO_PASID, type StateReader, type StateWriter, type Timer, type VirtualClock } from '@remora/core';

/** Does an invalidation; the parameters are those of AtsEndpoint.invalidate. */
export type Invalidate = (
  pasid: number,
  global: boolean,
  hi: number,
  lo: number,
  shift: number,
  completed: () => void,
) => void;

const MAX_PASID = 2 ** 20 - 1;
const WORD = { min: -(2 ** 31), max: 2 ** 32 - 1 };

class Delayed {
  readonly pasid: number;
  readonly global: boolean;
  readonly hi: number;
  readonly lo: number;
  readonly shift: number;
  /** Undefined for one that came with a state, until the IOMMU has sent it again. */
  completed: (() => void) | undefined;
  timer: Timer | undefined;

  constructor(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed?: () => void) {
    this.pasid = pasid;
    this.global = global;
    this.hi = hi;
    this.lo = lo;
    this.shift = shift;
    this.completed = completed;
  }
}

export class DelayedInvalidations {
  readonly #clock: VirtualClock;
  readonly #latency: number;
  readonly #invalidate: Invalidate;
  /** Oldest first. */
  #pending: Delayed[] = [];

  /** `latency` in nanoseconds. */
  constructor(clock: VirtualClock, latency: number, invalidate: Invalidate) {
    this.#clock = clock;
    this.#latency = latency;
    this.#invalidate = invalidate;
  }

  /** One that came with a state, and is sent again by an IOMMU that waits for it, goes on with the time that it has left. */
  add(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed: () => void): void {
    const sentAgain = this.#pending.find(
      each =>
        each.completed === undefined &&
        each.pasid === pasid &&
        each.global === global &&
        (each.hi ^ hi) === 0 &&
        (each.lo ^ lo) === 0 &&
        each.shift === shift,
    );
    if (sentAgain !== undefined) {
      sentAgain.completed = completed;
      return;
    }
    const delayed = new Delayed(pasid, global, hi, lo, shift, completed);
    delayed.timer = this.#clock.after(this.#latency, () => this.#do(delayed));
    this.#pending.push(delayed);
  }

  /** Who is told of their completion, the IOMMU knows. */
  save(into: StateWriter): void {
    into.list('delayed', this.#pending, (each, { pasid, global, hi, lo, shift, timer }) => {
      each.integer('pasid', pasid).flag('global', global).integer('hi', hi).integer('lo', lo).integer('shift', shift);
      each.timer('timer', timer, this.#clock.now);
    });
  }

  load(from: StateReader): void {
    this.forget();
    this.#pending = from.list('delayed').map(each => {
      const pasid = each.integer('pasid', { min: NO_PASID, max: MAX_PASID });
      const [global, hi, lo] = [each.flag('global'), each.integer('hi', WORD), each.integer('lo', WORD)];
      const delayed = new Delayed(pasid, global, hi, lo, each.integer('shift', { min: 12, max: 64 }));
      delayed.timer = each.timer('timer', this.#clock, () => this.#do(delayed));
      return delayed;
    });
  }

  /** None of them will be done. */
  forget(): void {
    for (const { timer } of this.#pending) timer?.cancel();
    this.#pending = [];
  }

  #do(delayed: Delayed): void {
    const { pasid, global, hi, lo, shift, completed } = delayed;
    this.#pending = this.#pending.filter(each => each !== delayed);
    this.#invalidate(pasid, global, hi, lo, shift, () => completed?.());
  }
}
