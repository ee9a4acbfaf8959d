/** The two sides of a comparison. Both take lines and give replies; both can be put back to where they started. */
import { QtestSession } from '@remora/qtest';
import { parseCommandLine, System } from '../system/index.js';
import { type DiffConfig, machineArguments } from './configs.js';
import type { Line } from './program.js';

export interface Peer extends AsyncDisposable {
  reset(): Promise<void>;
  /** A reply for each line. */
  run(lines: readonly Line[]): Promise<string[]>;
}

/** Longer than a transfer takes. */
export const TRANSFER_NS = 100_000_000;

/** The model, in this process. */
export class ModelPeer implements Peer {
  readonly #system: System;
  readonly #session: QtestSession;

  constructor(config: DiffConfig, testdev = false) {
    const args = machineArguments(config, { testdev, more: ['compat=qemu-10.2'] });
    this.#system = new System(parseCommandLine(args), () => undefined);
    this.#session = new QtestSession(this.#system.qtest, () => undefined);
  }

  reset(): Promise<void> {
    this.#system.machine!.reset();
    return Promise.resolve();
  }

  run(lines: readonly Line[]): Promise<string[]> {
    return Promise.resolve(
      lines.map(({ text, untilIdle }) => {
        if (untilIdle === true) this.#session.execute(`clock_step ${TRANSFER_NS}`);
        return this.#session.execute(text);
      }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#session[Symbol.dispose]();
    this.#system[Symbol.dispose]();
    return Promise.resolve();
  }
}
