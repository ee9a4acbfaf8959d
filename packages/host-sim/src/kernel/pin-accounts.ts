/** How many pages are pinned on whose account: a user's, or a process' alone. RLIMIT_MEMLOCK bounds both. */
import { Errno } from '@remora/core';
import type { HostProcess } from '../process.js';

/** A user's name, or a process. */
export type PinPayer = string | HostProcess;

export class PinAccounts {
  readonly #pages = new Map<PinPayer, number>();

  /** -ENOMEM if `payer` would have more than `limit` pages then. */
  charge(payer: PinPayer, pages: number, limit: number): number {
    const sum = this.pinned(payer) + pages;
    if (sum > limit) return -Errno.ENOMEM;
    this.#pages.set(payer, sum);
    return 0;
  }

  refund(payer: PinPayer, pages: number): void {
    const left = this.pinned(payer) - pages;
    if (left > 0) this.#pages.set(payer, left);
    else this.#pages.delete(payer);
  }

  /** Pages that `payer` has pinned. */
  pinned(payer: PinPayer): number {
    return this.#pages.get(payer) ?? 0;
  }

  /** JSON-able, for dumps. */
  state(): unknown {
    return [...this.#pages].map(([payer, pages]) => ({
      payer: typeof payer === 'string' ? `user ${payer}` : `process ${payer.name}`,
      pages,
    }));
  }
}
