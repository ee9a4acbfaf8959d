import type { Hva } from '@remora/bits';
import type { HostSyscalls, IoctlArgument, MappedMemory } from './syscalls.js';

/** Passes every call on: what a recorder, or a test that makes the host fail, starts from. */
export class ForwardingSyscalls implements HostSyscalls {
  protected readonly next: HostSyscalls;

  constructor(next: HostSyscalls) {
    this.next = next;
  }

  open(path: string): number {
    return this.next.open(path);
  }

  readlink(path: string): string | number {
    return this.next.readlink(path);
  }

  readdir(path: string): readonly string[] | number {
    return this.next.readdir(path);
  }

  close(fd: number): number {
    return this.next.close(fd);
  }

  ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return this.next.ioctl(fd, request, argument);
  }

  pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.next.pread(fd, buffer, offset);
  }

  pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.next.pwrite(fd, buffer, offset);
  }

  read(fd: number, buffer: Uint8Array): number {
    return this.next.read(fd, buffer);
  }

  write(fd: number, buffer: Uint8Array): number {
    return this.next.write(fd, buffer);
  }

  mmap(length: number): MappedMemory | number {
    return this.next.mmap(length);
  }

  munmap(address: Hva, length: number): number {
    return this.next.munmap(address, length);
  }

  eventfd(): number {
    return this.next.eventfd();
  }

  onReadable(fd: number, ready: () => void): Disposable {
    return this.next.onReadable(fd, ready);
  }
}
