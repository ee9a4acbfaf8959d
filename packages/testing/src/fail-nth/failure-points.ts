/** Counts the points at which a scenario can fail, and makes one of them fail. */
import { type MemoryPort, MemTx } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import type { UapiVariant } from '@remora/uapi';
import { CountedMemory } from './counted-memory.js';
import { CountedSyscalls } from './counted-syscalls.js';
import type { FailurePorts } from './scenario.js';

/** What has to fail: a call, allocation or insertion by its number, or a memory access by its; both from 0. */
export type PlannedFailure =
  { readonly event: number; readonly errno: number } | { readonly access: number; readonly result: MemTx };

const NOTHING: PlannedFailure = { event: -1, errno: 0 };

export class FailurePoints implements FailurePorts {
  /** Names of the calls, allocations and insertions so far: `VFIO_IOMMU_BIND`, `open /dev/vfio/1`, `allocate kernel pages`. */
  readonly names: string[] = [];
  readonly #failure: PlannedFailure;
  #accesses = 0;
  #counting = true;
  #struck: string | undefined;

  /** Nothing fails without `failure`. */
  constructor(failure: PlannedFailure = NOTHING) {
    this.#failure = failure;
  }

  /** Memory accesses so far. */
  get accesses(): number {
    return this.#accesses;
  }

  /** The point that was made to fail. */
  get struck(): string | undefined {
    return this.#struck;
  }

  syscalls(next: HostSyscalls, variant?: UapiVariant): HostSyscalls {
    return new CountedSyscalls(next, name => this.#event(name), variant);
  }

  readonly inject = (what: string): number => this.#event(what.startsWith('queue ') ? what : `allocate ${what}`);

  memory(next: MemoryPort): MemoryPort {
    return new CountedMemory(next, () => this.#access());
  }

  uncounted<T>(act: () => T): T {
    const counting = this.#counting;
    this.#counting = false;
    try {
      return act();
    } finally {
      this.#counting = counting;
    }
  }

  #event(name: string): number {
    if (!this.#counting) return 0;
    const number = this.names.push(name) - 1;
    if (!('event' in this.#failure) || number !== this.#failure.event) return 0;
    this.#struck = name;
    return -this.#failure.errno;
  }

  #access(): MemTx {
    if (!this.#counting) return MemTx.OK;
    const number = this.#accesses++;
    if (!('access' in this.#failure) || number !== this.#failure.access) return MemTx.OK;
    this.#struck = MEMORY_ACCESS;
    return this.#failure.result;
  }
}

/** The name of every point that is an access to memory. */
export const MEMORY_ACCESS = 'memory access';
