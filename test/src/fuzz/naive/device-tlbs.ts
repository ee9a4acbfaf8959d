/** An invalidation queue of device-TLB invalidations and waits as vtd.md 5.1, 5.5 and 7.5 tell it: what is awaited, and what comes of it. */

export interface Invalidation {
  readonly sid: number;
  readonly mip: number;
  /** Whether the function is done with it at once. */
  readonly atOnce: boolean;
}

export type Descriptor = Invalidation | 'wait';

interface Awaited {
  readonly sid: number;
  /** Which of all invalidations it is. */
  readonly index: number;
  readonly deadline: number;
}

const MINUTE = 60_000_000_000;
const MOST = 256;
const ICE = 0x20;
const ITE = 0x40;

export class NaiveDeviceTlbs {
  /** Of the descriptor that is fetched next. */
  head = 0;
  /** FSTS. */
  status = 0;
  itesid = 0;
  icesid = 0;
  /** Indices of waits that were completed. */
  readonly completed = new Set<number>();
  /** Indices of waits that never will be. */
  readonly aborted = new Set<number>();
  /** Invalidations that were sent. */
  sent = 0;
  readonly #queue: Descriptor[] = [];
  #awaited: Awaited[] = [];
  #waits = false;

  submit(descriptor: Descriptor, now: number): void {
    this.#queue.push(descriptor);
    this.run(now);
  }

  /** The function completes what it was sent as number `index`. */
  complete(index: number, sid: number, now: number): void {
    if (this.#awaited.some(each => each.index === index)) {
      this.#awaited = this.#awaited.filter(each => each.index !== index);
      this.run(now);
      return;
    }
    if ((this.status & ICE) === 0) this.icesid = sid;
    this.status |= ICE;
  }

  /** Time has come to `now`. */
  elapse(now: number): void {
    for (const { sid, deadline, index } of this.#awaited) {
      if (deadline > now) continue;
      this.#awaited = this.#awaited.filter(each => each.index !== index);
      if (this.#waits) this.aborted.add(this.head++);
      this.#waits = false;
      if ((this.status & ITE) === 0) this.itesid = sid;
      this.status |= ITE;
    }
  }

  clear(bits: number, now: number): void {
    this.status &= ~bits;
    this.run(now);
  }

  run(now: number): void {
    while ((this.status & ITE) === 0 && this.head < this.#queue.length) {
      const descriptor = this.#queue[this.head]!;
      this.#waits = descriptor === 'wait' && this.#awaited.length > 0;
      if (this.#waits) return;
      if (descriptor === 'wait') this.completed.add(this.head);
      else if (!this.#send(descriptor, now)) return;
      this.head++;
    }
  }

  #send({ sid, mip, atOnce }: Invalidation, now: number): boolean {
    const pending = this.#awaited.filter(each => each.sid === sid).length;
    if (this.#awaited.length > 0 && (pending >= (mip === 0 ? 32 : mip) || this.#awaited.length >= MOST)) return false;
    const index = this.sent++;
    if (!atOnce) this.#awaited.push({ sid, index, deadline: now + MINUTE });
    return true;
  }
}
