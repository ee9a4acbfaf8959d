/** Descriptors that came with a message. */
import type { Duplex } from 'node:stream';
import type { Poller } from '@remora/host-linux';
import type { Libc } from './libc.js';

/** One descriptor, until somebody keeps it. */
export class PassedDescriptor implements Disposable {
  static #open = 0;

  readonly fd: number;
  readonly #libc: Libc;
  #kept = false;

  constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.fd = fd;
    PassedDescriptor.#open++;
  }

  /** How many are open in this thread: of all clients, kept or not. */
  static get open(): number {
    return PassedDescriptor.#open;
  }

  /** The caller closes it from now on. */
  keep(): this {
    this.#kept = true;
    return this;
  }

  /** Once, by whoever keeps it. */
  close(): void {
    PassedDescriptor.#open--;
    this.#libc.close(this.fd);
  }

  /** Closes it, unless somebody keeps it. */
  [Symbol.dispose](): void {
    if (!this.#kept) this.keep().close();
  }
}

/** What came with one message. */
export interface Passed {
  readonly descriptors: readonly PassedDescriptor[];
  /** There were more than this server takes, or than it may have open. */
  readonly truncated: boolean;
}

/** What it takes to deal with descriptors. */
export interface DescriptorSystem {
  readonly libc: Libc;
  readonly poller: Poller;
}

/** A stream whose messages bring descriptors. */
export interface DescriptorStream extends Duplex {
  readonly system: DescriptorSystem;
  /** Those that came with bytes before `position`, counted from the stream's beginning, and were not taken yet. */
  takePassed(position: number): Passed;
}

export function passesDescriptors(stream: Duplex): stream is DescriptorStream {
  return 'takePassed' in stream;
}

export const NOTHING_PASSED: Passed = { descriptors: [], truncated: false };
