/** HostSyscalls that makes the real system calls, on 64-bit Linux, by koffi. */
import { readdirSync, readlinkSync } from 'node:fs';
import type { Hva } from '@remora/bits';
import { Errno } from '@remora/core';
import type { HostSyscalls, IoctlArgument, MappedMemory } from '@remora/host';
import { LinuxLibc } from './libc.js';
import { MappedPages } from './mapped-pages.js';
import { Poller, PollEvent } from './poller.js';

const O_RDWR_CLOEXEC = 0o2000002;

export class LinuxSyscalls implements HostSyscalls {
  readonly #libc: LinuxLibc;
  readonly #pages: MappedPages;
  readonly #poller: Poller;

  /** Made by `linuxSyscalls`. */
  constructor(libc: LinuxLibc) {
    this.#libc = libc;
    this.#pages = new MappedPages(libc);
    this.#poller = new Poller(libc);
  }

  open(path: string): number {
    return this.#libc.call('open', zeroTerminated(path), O_RDWR_CLOEXEC);
  }

  readlink(path: string): string | number {
    return told(() => readlinkSync(path));
  }

  readdir(path: string): readonly string[] | number {
    return told(() => readdirSync(path));
  }

  close(fd: number): number {
    return this.#libc.close(fd);
  }

  /** Integers are passed as they are; of a structure, the address of its first byte. */
  ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    return argument instanceof Uint8Array
      ? this.#libc.call('ioctl', fd, request, argument)
      : this.#libc.call('ioctl_integer', fd, request, BigInt.asUintN(64, BigInt(argument ?? 0)));
  }

  pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#libc.call('pread', fd, buffer, buffer.length, offset);
  }

  pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#libc.call('pwrite', fd, buffer, buffer.length, offset);
  }

  read(fd: number, buffer: Uint8Array): number {
    return this.#libc.call('read', fd, buffer, buffer.length);
  }

  write(fd: number, buffer: Uint8Array): number {
    return this.#libc.call('write', fd, buffer, buffer.length);
  }

  mmap(length: number): MappedMemory | number {
    return this.#pages.map(length);
  }

  munmap(address: Hva, length: number): number {
    return this.#pages.unmap(address, length);
  }

  eventfd(): number {
    return this.#libc.eventfd();
  }

  /** One poll(2) for all descriptors, on a thread of Node's pool; `ready` is called on the main one. */
  onReadable(fd: number, ready: () => void): Disposable {
    const watch = this.#poller.watch(fd, () => ready());
    watch.events = PollEvent.IN;
    return watch;
  }
}

/** @throws ConfigError at `path` if koffi is not installed, or this is no 64-bit Linux. */
export function linuxSyscalls(path = 'host'): LinuxSyscalls {
  return new LinuxSyscalls(new LinuxLibc(path, 'to make system calls'));
}

function zeroTerminated(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

/** What Node's file system gives, or its -errno. */
function told<T>(ask: () => T): T | number {
  try {
    return ask();
  } catch (failure) {
    return (failure as NodeJS.ErrnoException).errno ?? -Errno.EINVAL;
  }
}
