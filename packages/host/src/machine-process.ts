/** The process that a machine runs in, as its devices see it. */
import type { Hva } from '@remora/bits';
import { Errno, type Ram, type Section } from '@remora/core';
import { IommufdBackend, PasidNumbers } from './iommufd/index.js';
import type { HostSyscalls } from './syscalls.js';
import { VfioConnections } from './vfio/index.js';

/** `host` of a device's context, in a machine that runs on a host. */
export class MachineProcess implements Disposable {
  readonly syscalls: HostSyscalls;
  /** Shared by the machine's devices, as they share containers. */
  readonly vfio: VfioConnections;
  readonly #iommufds = new Map<string, IommufdBackend>();
  readonly #pasids = new PasidNumbers();
  readonly #name: string;
  readonly #memory = new Map<Ram, Hva>();

  /** `name` is the machine's. */
  constructor(syscalls: HostSyscalls, name: string) {
    this.syscalls = syscalls;
    this.#name = name;
    this.vfio = new VfioConnections(syscalls, name);
  }

  /** What `-object iommufd` made, by id. */
  get iommufds(): ReadonlyMap<string, IommufdBackend> {
    return this.#iommufds;
  }

  /** `-object iommufd`: nothing is opened before a device uses it. The id is a new one. */
  addIommufd(id: string): IommufdBackend {
    const backend = new IommufdBackend(this.syscalls, this.#name, id, this.#pasids);
    this.#iommufds.set(id, backend);
    return backend;
  }

  /** Whether the device at `bdf` of the host (`0000:3f:00.0`) is open here, in whichever way. */
  holds(bdf: string): boolean {
    return this.vfio.has(bdf) || [...this.#iommufds.values()].some(({ devices }) => devices.has(bdf));
  }

  /** `length` bytes of process memory (a multiple of 4096) for a guest; or -errno. */
  allocate(length: number): Ram | number {
    const mapped = this.syscalls.mmap(length);
    if (typeof mapped === 'number') return mapped;
    if (mapped.ram.size !== length) return -Errno.EIO;
    this.#memory.set(mapped.ram, mapped.address);
    return mapped.ram;
  }

  /** Where the process has the first byte of the section's region; undefined for what `allocate` did not return. */
  readonly addressOf = (section: Section): Hva | undefined => {
    const { ram } = section.region;
    return ram === undefined ? undefined : this.#memory.get(ram);
  };

  /** Gives the memory back. What is connected by VFIO must be closed before. */
  [Symbol.dispose](): void {
    for (const [ram, address] of this.#memory) this.syscalls.munmap(address, ram.size);
    this.#memory.clear();
  }
}
