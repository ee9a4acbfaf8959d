/**
 * What one machine has of this process: its descriptors and its memory, given back when the machine is gone. Descriptors that come in
 * structures (queues of faults, device states) are closed by who asked for them.
 */
import type { Hva } from '@remora/bits';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument, type MappedMemory } from '@remora/host';
import { VFIO_GROUP_GET_DEVICE_FD } from '@remora/uapi';

export class LinuxProcess extends ForwardingSyscalls implements Disposable {
  readonly name: string;
  readonly #descriptors = new Set<number>();
  readonly #memory = new Map<Hva, number>();
  readonly #ended: () => void;

  /** Made by LinuxHost. */
  constructor(linux: HostSyscalls, name: string, ended: () => void) {
    super(linux);
    this.name = name;
    this.#ended = ended;
  }

  override open(path: string): number {
    return this.#opened(super.open(path));
  }

  override eventfd(): number {
    return this.#opened(super.eventfd());
  }

  override close(fd: number): number {
    this.#descriptors.delete(fd);
    return super.close(fd);
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const result = super.ioctl(fd, request, argument);
    return request === VFIO_GROUP_GET_DEVICE_FD ? this.#opened(result) : result;
  }

  override mmap(length: number): MappedMemory | number {
    const mapped = super.mmap(length);
    if (typeof mapped !== 'number') this.#memory.set(mapped.address, length);
    return mapped;
  }

  override munmap(address: Hva, length: number): number {
    if (this.#memory.get(address) === length) this.#memory.delete(address);
    return super.munmap(address, length);
  }

  /** What it still has open and mapped, for people. */
  state(): { descriptors: number[]; bytes: number } {
    return {
      descriptors: [...this.#descriptors],
      bytes: [...this.#memory.values()].reduce((sum, each) => sum + each, 0),
    };
  }

  /** Devices before what they stand in: descriptors are closed in the reverse order of their opening. */
  [Symbol.dispose](): void {
    for (const fd of [...this.#descriptors].reverse()) this.close(fd);
    for (const [address, length] of [...this.#memory]) this.munmap(address, length);
    this.#ended();
  }

  #opened(fd: number): number {
    if (fd >= 0) this.#descriptors.add(fd);
    return fd;
  }
}
