/** What a recording has told of guest memory so far. */
import { MemTx } from '@remora/core';
import { ReplayMemory } from '../../replay/replay-memory.js';

export class KnownMemory {
  /** As a replay will have it. */
  readonly #contents = new ReplayMemory(() => undefined);
  /** Ones where the contents have been told. */
  readonly #told = new ReplayMemory(() => undefined);

  /** These bytes are in memory. Returns whether the recording has yet to say so. */
  learn(hi: number, lo: number, bytes: Uint8Array): boolean {
    const contents = new Uint8Array(bytes.length);
    const told = new Uint8Array(bytes.length);
    const answers = this.#contents.read(hi, lo, contents) === MemTx.OK;
    this.#told.read(hi, lo, told);
    if (answers && bytes.every((byte, at) => told[at] !== 0 && contents[at] === byte)) return false;
    this.#contents.put(hi, lo, bytes);
    this.#told.put(hi, lo, told.fill(1));
    return true;
  }

  /** Nothing answers at these bytes. Returns whether the recording has yet to say so. */
  fail(hi: number, lo: number, length: number): boolean {
    if (this.fails(hi, lo, length)) return false;
    this.#contents.fail(hi, lo, length);
    return true;
  }

  /** Whether the recording has said that nothing answers there. */
  fails(hi: number, lo: number, length: number): boolean {
    return this.#contents.read(hi, lo, new Uint8Array(length)) !== MemTx.OK;
  }
}
