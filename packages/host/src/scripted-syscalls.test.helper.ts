import { hva, type Hva } from '@remora/bits';
import { Errno, Ram } from '@remora/core';
import type { HostSyscalls, IoctlArgument, MappedMemory } from './syscalls.js';

export interface SeenIoctl {
  readonly fd: number;
  readonly request: number;
  /** Bytes as hexadecimal, or the integer. */
  readonly argument: string | number | undefined;
}

/** Answers an ioctl; may write into the bytes. */
export type Answer = (argument: IoctlArgument, fd: number) => number;

/** A host that answers what a test tells it to, and -ENOTTY otherwise. Descriptors count up from 3. */
export class ScriptedSyscalls implements HostSyscalls {
  readonly ioctls: SeenIoctl[] = [];
  /** `open <path>`, `close <fd>` ... in order. */
  readonly calls: string[] = [];
  /** What directories hold. */
  readonly directories = new Map<string, readonly string[]>();
  /** What comes out of descriptors, one read after the other. */
  readonly readable = new Map<number, Uint8Array[]>();
  /** Who waits for descriptors. */
  readonly listeners = new Map<number, () => void>();
  readonly answers = new Map<number, Answer>();
  #next = 3;

  /** Answers `request` from now on. */
  on(request: number, answer: Answer | number): this {
    this.answers.set(request, typeof answer === 'number' ? () => answer : answer);
    return this;
  }

  /** The ioctls since the last call, without their descriptors. */
  takeIoctls(): [request: number, argument: string | number | undefined][] {
    return this.ioctls.splice(0).map(({ request, argument }) => [request, argument]);
  }

  ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const seen = argument instanceof Uint8Array ? Buffer.from(argument).toString('hex') : argument;
    this.ioctls.push({ fd, request, argument: seen });
    return this.answers.get(request)?.(argument, fd) ?? -Errno.ENOTTY;
  }

  open(path: string): number {
    this.calls.push(`open ${path}`);
    return this.#next++;
  }

  readlink(path: string): string | number {
    this.calls.push(`readlink ${path}`);
    return -Errno.ENOENT;
  }

  readdir(path: string): readonly string[] | number {
    this.calls.push(`readdir ${path}`);
    return this.directories.get(path) ?? -Errno.ENOENT;
  }

  close(fd: number): number {
    this.calls.push(`close ${fd}`);
    return 0;
  }

  pread(fd: number, buffer: Uint8Array, offset: number): number {
    this.calls.push(`pread ${fd} ${buffer.length} ${offset}`);
    return buffer.length;
  }

  pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    this.calls.push(`pwrite ${fd} ${buffer.length} ${offset}`);
    return buffer.length;
  }

  /** Gives what `readable` has for the descriptor, then -EAGAIN. */
  read(fd: number, buffer: Uint8Array): number {
    const bytes = this.readable.get(fd)?.shift();
    this.calls.push(`read ${fd} ${buffer.length}`);
    if (bytes === undefined) return -Errno.EAGAIN;
    buffer.set(bytes);
    return bytes.length;
  }

  write(fd: number, buffer: Uint8Array): number {
    this.calls.push(`write ${fd} ${Buffer.from(buffer).toString('hex')}`);
    return buffer.length;
  }

  mmap(length: number): MappedMemory | number {
    this.calls.push(`mmap ${length}`);
    return { address: hva(0x7f00_0000_0000), ram: Ram.allocate(length) };
  }

  munmap(address: Hva, length: number): number {
    this.calls.push(`munmap ${address} ${length}`);
    return 0;
  }

  eventfd(): number {
    this.calls.push('eventfd');
    return this.#next++;
  }

  onReadable(fd: number, ready: () => void): Disposable {
    this.calls.push(`onReadable ${fd}`);
    this.listeners.set(fd, ready);
    return { [Symbol.dispose]: () => {} };
  }
}
