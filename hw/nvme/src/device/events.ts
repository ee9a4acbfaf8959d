/**
 * Asynchronous events (NVMe 1.4, 5.2): what happened waits until the host has a request outstanding, and after one was reported, further
 * ones of its type wait until the host has read the log page that it names.
 */
import type { StateReader, StateWriter } from '@remora/core';

/** As it stands in dword 0 of the completion: type 2:0, information 15:8, log page 23:16. */
type Event = number;

const TYPE_MASK = 7;

export interface EventOptions {
  /** Requests that may be outstanding. */
  readonly requests: number;
  /** Events that wait; the others are lost. */
  readonly events: number;
  /** Completes the request `cid` with `result`, if there is room for a completion. */
  readonly complete: (cid: number, result: number) => boolean;
}

export class AsyncEvents {
  readonly #options: EventOptions;
  readonly #requests: number[] = [];
  readonly #events: Event[] = [];
  /** Types that wait for their log page to be read: a bit each. */
  #masked = 0;

  constructor(options: EventOptions) {
    this.#options = options;
  }

  get outstanding(): readonly number[] {
    return this.#requests;
  }

  get waiting(): number {
    return this.#events.length;
  }

  /** A request of the host. False if there are too many. */
  request(cid: number): boolean {
    if (this.#requests.length >= this.#options.requests) return false;
    this.#requests.push(cid);
    return true;
  }

  /** Takes a request back. False if there is none. */
  abort(cid: number): boolean {
    const index = this.#requests.indexOf(cid);
    if (index < 0) return false;
    this.#requests.splice(index, 1);
    return true;
  }

  /** `deliver` tells of it. */
  happened(type: number, information: number, page: number): void {
    const event = type | (information << 8) | (page << 16);
    // What already waits need not be told twice.
    if (this.#events.length < this.#options.events && !this.#events.includes(event)) this.#events.push(event);
  }

  /** The log page was read that events of these types named. */
  unmask(page: number): void {
    for (let type = 0; type <= TYPE_MASK; type++) if (this.#pageOf[type] === page) this.#masked &= ~(1 << type);
  }

  /** The page that the last reported event of each type named. */
  readonly #pageOf = new Int32Array(TYPE_MASK + 1);

  /** Completes requests for events that may be told. */
  deliver(): void {
    for (let index = 0; index < this.#events.length && this.#requests.length > 0;) {
      const event = this.#events[index]!;
      const type = event & TYPE_MASK;
      if ((this.#masked >>> type) & 1) {
        index++;
        continue;
      }
      if (!this.#options.complete(this.#requests[0]!, event)) return;
      this.#requests.shift();
      this.#events.splice(index, 1);
      this.#masked |= 1 << type;
      this.#pageOf[type] = event >>> 16;
    }
  }

  reset(): void {
    this.#requests.length = 0;
    this.#events.length = 0;
    this.#masked = 0;
    this.#pageOf.fill(0);
  }

  save(into: StateWriter): void {
    into.words('requests', Int32Array.from(this.#requests)).words('events', Int32Array.from(this.#events));
    into.integer('masked', this.#masked).words('pages', this.#pageOf);
  }

  load(from: StateReader): void {
    this.#requests.splice(0, Infinity, ...from.anyWords('requests', this.#options.requests));
    this.#events.splice(0, Infinity, ...from.anyWords('events', this.#options.events));
    this.#masked = from.integer('masked', { max: 0xff });
    from.words('pages', this.#pageOf);
  }
}
