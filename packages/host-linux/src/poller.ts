/**
 * Waits for any number of descriptors on one thread: one poll() at a time, on Node's pool, interrupted by an event descriptor when what is
 * waited for changes. Reads and writes are the watchers', on the main thread, and never wait.
 */
import { readSync, writeSync } from 'node:fs';
import { viewOf } from '@remora/uapi';

export const PollEvent = { IN: 1, OUT: 4, ERR: 8, HUP: 16, NVAL: 32 } as const;

const POLLFD_BYTES = 8;
/** A descriptor that poll() passes over. */
const NOTHING = -1;
/** Then the thread is free for a moment: Node has four for all that asks for one, the pollers of its worker threads included. */
const AT_ONCE_MS = 50;
const ONE = new Uint8Array(BigUint64Array.of(1n).buffer);

/** What polling needs of the C library. */
export interface PollingCalls {
  /** Calls `done` when one of the `count` pollfd structures has something to say, or after `milliseconds` unless they are -1. */
  poll(pollfds: Uint8Array, count: number, milliseconds: number, done: () => void): void;
  /** An event descriptor that never waits; or a negated errno. */
  eventfd(): number;
  close(fd: number): unknown;
}

/** One descriptor that is waited for, until disposed of; it is not closed. */
export class Watch implements Disposable {
  readonly fd: number;
  /** Called with PollEvent bits, one of which was waited for, or says that the descriptor is at its end. */
  readonly ready: (events: number) => void;
  readonly #changed: (watch: Watch, over: boolean) => void;
  #events = 0;
  #over = false;

  /** Made by Poller. */
  constructor(fd: number, ready: (events: number) => void, changed: (watch: Watch, over: boolean) => void) {
    this.fd = fd;
    this.ready = ready;
    this.#changed = changed;
  }

  /** PollEvent bits that are waited for; 0: nothing at all. */
  get events(): number {
    return this.#events;
  }

  set events(events: number) {
    if (this.#over || this.#events === events) return;
    this.#events = events;
    this.#changed(this, false);
  }

  [Symbol.dispose](): void {
    if (this.#over) return;
    this.#over = true;
    this.#events = 0;
    this.#changed(this, true);
  }
}

/** The structures of one poll(): first #waker's, then those of `watched`. */
interface Asked {
  readonly watched: readonly Watch[];
  readonly pollfds: Uint8Array;
  readonly view: DataView;
}

export class Poller {
  readonly #libc: PollingCalls;
  readonly #watches = new Set<Watch>();
  /** Interrupts the poll; there while there is something to wait for, unless the process has too many descriptors. */
  #waker: number | undefined;
  /** 'watchers': they are told of what happened. */
  #state: 'idle' | 'polling' | 'watchers' = 'idle';
  /** What is waited for, as long as that does not change. */
  #asked: Asked | undefined;
  #woken = false;
  readonly #atExit = (): void => this.#wake();

  constructor(libc: PollingCalls) {
    this.#libc = libc;
  }

  /** Waits for nothing until `events` is set. */
  watch(fd: number, ready: (events: number) => void): Watch {
    const watch = new Watch(fd, ready, (changed, over) => {
      if (over) this.#watches.delete(changed);
      this.#again();
    });
    this.#watches.add(watch);
    return watch;
  }

  /** What is waited for is not what was asked for. */
  #again(): void {
    this.#asked = undefined;
    if (this.#state === 'polling') this.#wake();
    else if (this.#state === 'idle') this.#poll();
  }

  #wake(): void {
    if (this.#state !== 'polling' || this.#woken || this.#waker === undefined) return;
    this.#woken = true;
    writeSync(this.#waker, ONE);
  }

  #poll(): void {
    this.#asked ??= this.#ask();
    if (this.#asked === undefined) {
      this.#rest();
      return;
    }
    this.#state = 'polling';
    const asked = this.#asked;
    this.#libc.poll(asked.pollfds, asked.watched.length + 1, AT_ONCE_MS, () => this.#polled(asked));
  }

  /** What is to be waited for; undefined: nothing. */
  #ask(): Asked | undefined {
    const watched = [...this.#watches].filter(({ events }) => events !== 0);
    if (watched.length === 0) return undefined;
    if (this.#waker === undefined) {
      const waker = this.#libc.eventfd();
      // Without one, what changes is seen when the time of a poll is up.
      if (waker >= 0) {
        this.#waker = waker;
        // A process that ends waits for its threads.
        process.on('exit', this.#atExit);
      }
    }
    const pollfds = new Uint8Array(new ArrayBuffer((watched.length + 1) * POLLFD_BYTES));
    const view = viewOf(pollfds);
    const ask = (index: number, fd: number, events: number): void => {
      view.setInt32(index * POLLFD_BYTES, fd, true);
      view.setInt16(index * POLLFD_BYTES + 4, events, true);
    };
    ask(0, this.#waker ?? NOTHING, PollEvent.IN);
    for (const [index, { fd, events }] of watched.entries()) ask(index + 1, fd, events);
    return { watched, pollfds, view };
  }

  /** Watchers may change what is waited for, and end each other. */
  #polled({ watched, view }: Asked): void {
    this.#state = 'watchers';
    if (this.#woken) readSync(this.#waker!, new Uint8Array(8));
    this.#woken = false;
    try {
      for (const [index, watch] of watched.entries()) {
        const happened = view.getInt16((index + 1) * POLLFD_BYTES + 6, true);
        const ended = happened & (PollEvent.ERR | PollEvent.HUP | PollEvent.NVAL);
        if (watch.events !== 0 && (happened & watch.events) + ended !== 0) watch.ready(happened);
      }
    } finally {
      this.#poll();
    }
  }

  #rest(): void {
    this.#state = 'idle';
    if (this.#waker === undefined) return;
    this.#libc.close(this.#waker);
    this.#waker = undefined;
    process.off('exit', this.#atExit);
  }
}
