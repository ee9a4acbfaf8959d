import type { StateReader, StateWriter } from '@remora/core';

/** Where messages end up that reach the platform: a bounded record, and whoever listens (an interrupt controller, a test). */

/** Requester id of messages that the platform itself sends, such as an IOMMU's own. */
export const PLATFORM_REQUESTER = -1;

export interface MsiMessage {
  /** bus << 8 | devfn of the sender (or of its alias), or PLATFORM_REQUESTER. */
  readonly requesterId: number;
  /** Byte address; 0xFEExxxxx for what an x86 platform takes as an interrupt. Exact for x2APIC destinations below 2^21. */
  readonly address: number;
  readonly data: number;
}

/** Takes one message: a DWORD `data` written to `(hi, lo)`. */
export type MsiSink = (requesterId: number, hi: number, lo: number, data: number) => void;

const KEPT = 4096;

export class MsiLog {
  readonly #messages: MsiMessage[] = [];
  readonly #listeners = new Set<(message: MsiMessage) => void>();

  /** The latest messages, oldest first; 4096 at most. */
  get messages(): readonly MsiMessage[] {
    return this.#messages;
  }

  readonly deliver: MsiSink = (requesterId, hi, lo, data) => {
    const message = { requesterId, address: (hi >>> 0) * 0x1_0000_0000 + (lo >>> 0), data: data >>> 0 };
    if (this.#messages.length === KEPT) this.#messages.shift();
    this.#messages.push(message);
    for (const listener of this.#listeners) listener(message);
  };

  /** Calls `listener` for every message from now on, until disposed. */
  listen(listener: (message: MsiMessage) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  clear(): void {
    this.#messages.length = 0;
  }

  save(into: StateWriter): void {
    into.list('messages', this.#messages, (each, { requesterId, address, data }) =>
      each.integer('requester', requesterId).integer('address', address).integer('data', data),
    );
  }

  /** Takes the record; nobody is told of messages that were delivered long ago. */
  load(from: StateReader): void {
    const messages = from.list('messages', KEPT).map(each => ({
      requesterId: each.integer('requester', { min: PLATFORM_REQUESTER }),
      address: each.integer('address'),
      data: each.integer('data', { max: 0xffff_ffff }),
    }));
    this.#messages.splice(0, this.#messages.length, ...messages);
  }
}
