/**
 * Virtual time: it moves only when it is told to, so that a machine does the same on every run. Nothing in a device model uses
 * setTimeout. Times are in nanoseconds and exact for 104 days. QEMU: QEMU_CLOCK_VIRTUAL.
 */

import type { StateReader } from './state/state-reader.js';
import type { StateWriter } from './state/state-writer.js';

/** A timer that fires once, unless it is cancelled before. */
export interface Timer extends Disposable {
  /** When it fires, on the clock that made it. */
  readonly deadline: number;
  /** Among timers with one deadline, the lowest fires first. */
  readonly order: number;
  /** Neither fired nor cancelled. */
  readonly pending: boolean;
  cancel(): void;
}

class ClockTimer implements Timer {
  readonly deadline: number;
  readonly order: number;
  readonly fire: () => void;
  readonly #waiting: ClockTimer[];

  constructor(deadline: number, order: number, fire: () => void, waiting: ClockTimer[]) {
    this.deadline = deadline;
    this.order = order;
    this.fire = fire;
    this.#waiting = waiting;
  }

  get pending(): boolean {
    return this.#waiting.includes(this);
  }

  cancel(): void {
    const index = this.#waiting.indexOf(this);
    if (index >= 0) this.#waiting.splice(index, 1);
  }

  [Symbol.dispose](): void {
    this.cancel();
  }
}

export class VirtualClock {
  /** Pending timers; ascending by deadline, then by order, which is that of creation. */
  readonly #waiting: ClockTimer[] = [];
  #now = 0;
  #created = 0;
  #firing = false;

  /** In nanoseconds since the machine began. */
  get now(): number {
    return this.#now;
  }

  /** Moves time on by `ns`. Timers fire in order of their deadlines, and see these as `now`; equal ones in order of creation. */
  step(ns: number): void {
    this.set(this.#now + ns);
  }

  /** Moves time on to `ns`, like `step`. @throws RangeError if that is not an integer or lies in the past. */
  set(ns: number): void {
    if (!Number.isSafeInteger(ns) || ns < this.#now)
      throw new RangeError(`cannot move the clock from ${this.#now} to ${ns} ns`);
    if (this.#firing) throw new Error('a timer cannot move the clock that fires it');
    this.#firing = true;
    try {
      for (let timer = this.#waiting[0]; timer !== undefined && timer.deadline <= ns; timer = this.#waiting[0]) {
        this.#waiting.shift();
        this.#now = timer.deadline;
        timer.fire();
      }
    } finally {
      this.#firing = false;
    }
    this.#now = ns;
  }

  /**
   * Calls `fire` in `ns` nanoseconds. A timer that sets the next one moves time on by at least one nanosecond: none can hold the
   * clock for ever.
   * @throws RangeError unless `ns` is an integer and not negative.
   */
  after(ns: number, fire: () => void): Timer {
    const deadline = this.#now + (this.#firing ? Math.max(ns, 1) : ns);
    if (!Number.isSafeInteger(deadline) || !(ns >= 0)) throw new RangeError(`not a delay: ${ns} ns`);
    return this.#wait(deadline, ++this.#created, fire);
  }

  /**
   * A timer that was pending when a machine was saved: it fires in `ns` nanoseconds, and among those with the same deadline by the
   * `order` that it had, in whatever order they are loaded.
   * @throws RangeError unless `ns` and `order` are integers and not negative.
   */
  again(ns: number, order: number, fire: () => void): Timer {
    const deadline = this.#now + ns;
    if (!Number.isSafeInteger(deadline) || !(ns >= 0) || !Number.isSafeInteger(order) || order < 0)
      throw new RangeError(`not a delay: ${ns} ns, order ${order}`);
    this.#created = Math.max(this.#created, order);
    return this.#wait(deadline, order, fire);
  }

  /** The time, and how many timers there have been. */
  save(into: StateWriter): void {
    into.integer('now', this.#now).integer('timers', this.#created);
  }

  /**
   * Takes over the time of a clock that was saved, if nothing waits here and it is not past already: other machines on the same host may
   * have moved it on. Timers are their owners' to load: what is left of their delays counts from now.
   */
  load(from: StateReader): void {
    const now = from.integer('now');
    if (now > this.#now && this.#waiting.length === 0) this.#now = now;
    this.#created = Math.max(this.#created, from.integer('timers'));
  }

  #wait(deadline: number, order: number, fire: () => void): Timer {
    const timer = new ClockTimer(deadline, order, fire, this.#waiting);
    const after = (other: ClockTimer): boolean =>
      other.deadline > deadline || (other.deadline === deadline && other.order > order);
    let index = this.#waiting.length;
    while (index > 0 && after(this.#waiting[index - 1]!)) index--;
    this.#waiting.splice(index, 0, timer);
    return timer;
  }

  /** When the next timer fires; undefined if there is none. */
  next(): number | undefined {
    return this.#waiting[0]?.deadline;
  }
}
