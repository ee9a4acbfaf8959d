/** Process memory that structures point to: the kernel takes payloads from it, and leaves its answers there. */
import type { Hva } from '@remora/bits';
import { MemTx } from '@remora/core';
import type { HostSyscalls, MappedMemory } from '../syscalls.js';
import { expectOk } from '../vfio/vfio-error.js';

export class PayloadMemory implements Disposable {
  readonly address: Hva;
  /** In bytes. */
  readonly size: number;
  readonly #syscalls: HostSyscalls;
  readonly #memory: MappedMemory;

  private constructor(syscalls: HostSyscalls, memory: MappedMemory) {
    this.#syscalls = syscalls;
    this.#memory = memory;
    this.address = memory.address;
    this.size = memory.ram.size;
  }

  /** `size` is a multiple of 4096; `what` is for messages. @throws VfioError if the host has none. */
  static allocate(syscalls: HostSyscalls, size: number, what: string): PayloadMemory {
    const memory = syscalls.mmap(size);
    if (typeof memory === 'number') expectOk(`${what}: mmap`, memory);
    return new PayloadMemory(syscalls, memory as MappedMemory);
  }

  /** Stores `bytes` from its beginning. */
  put(bytes: Uint8Array): void {
    this.#checked(this.#memory.ram.write(0, 0, bytes));
  }

  /** Fills `out` from its beginning. */
  get(out: Uint8Array): void {
    this.#checked(this.#memory.ram.read(0, 0, out));
  }

  [Symbol.dispose](): void {
    this.#syscalls.munmap(this.address, this.size);
  }

  #checked(result: number): void {
    if (result !== MemTx.OK) throw new RangeError(`a payload is longer than ${this.size} bytes`);
  }
}
