import type { TableMemory } from '../table-memory.js';

/** Memory as it is, with a walk's own writes on top: the walk can be tried without changing anything. */
export class Overlay {
  /** Quadwords that were written, by address. */
  readonly writes = new Map<bigint, bigint>();
  readonly #memory: TableMemory;

  constructor(memory: TableMemory) {
    this.#memory = memory;
  }

  /** One that starts with these writes and goes its own way. */
  fork(): Overlay {
    const fork = new Overlay(this.#memory);
    fork.adopt(this);
    return fork;
  }

  /** Takes over what a fork of this one wrote. */
  adopt(fork: Overlay): void {
    for (const [address, value] of fork.writes) this.writes.set(address, value);
  }

  quad(address: bigint): bigint | undefined {
    return this.writes.get(address) ?? this.#memory.quad(address);
  }

  /** `count` quadwords; undefined if any of them does not answer. */
  quads(address: bigint, count: number): bigint[] | undefined {
    const found = Array.from({ length: count }, (_, i) => this.quad(address + BigInt(i * 8)));
    return found.every(each => each !== undefined) ? found : undefined;
  }

  /** Returns whether that can be written. */
  put(address: bigint, value: bigint): boolean {
    if (!this.#memory.isWritable(address)) return false;
    this.writes.set(address, value);
    return true;
  }
}
