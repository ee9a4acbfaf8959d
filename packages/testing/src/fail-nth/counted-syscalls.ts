/** Names what a machine asks of its host, call by call, and lets each fail. */
import type { Hva } from '@remora/bits';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument, type MappedMemory } from '@remora/host';
import { ioctlName, type UapiVariant } from '@remora/uapi';

/** A call that fails never reaches the host; but a descriptor whose close fails is gone all the same, as on Linux. */
export class CountedSyscalls extends ForwardingSyscalls {
  readonly #next: (name: string) => number;
  readonly #variant: UapiVariant;

  /** `next` is told each call's name, and returns 0 or the negated errno with which it has to fail. */
  constructor(below: HostSyscalls, next: (name: string) => number, variant: UapiVariant = 'vsva-rfc-v3.1') {
    super(below);
    this.#next = next;
    this.#variant = variant;
  }

  override open(path: string): number {
    return this.#next(`open ${path}`) || super.open(path);
  }

  override readlink(path: string): string | number {
    return this.#next(`readlink ${path}`) || super.readlink(path);
  }

  override readdir(path: string): readonly string[] | number {
    return this.#next(`readdir ${path}`) || super.readdir(path);
  }

  override close(fd: number): number {
    const failed = this.#next('close');
    const result = super.close(fd);
    return failed || result;
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return this.#next(ioctlName(request, this.#variant)) || super.ioctl(fd, request, argument);
  }

  override pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#next('pread') || super.pread(fd, buffer, offset);
  }

  override pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#next('pwrite') || super.pwrite(fd, buffer, offset);
  }

  override read(fd: number, buffer: Uint8Array): number {
    return this.#next('read') || super.read(fd, buffer);
  }

  override write(fd: number, buffer: Uint8Array): number {
    return this.#next('write') || super.write(fd, buffer);
  }

  override mmap(length: number): MappedMemory | number {
    return this.#next('mmap') || super.mmap(length);
  }

  override munmap(address: Hva, length: number): number {
    return this.#next('munmap') || super.munmap(address, length);
  }

  override eventfd(): number {
    return this.#next('eventfd') || super.eventfd();
  }
}
