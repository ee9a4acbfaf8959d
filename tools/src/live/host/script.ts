/** A script of system calls, and what a host answered to each: what a real kernel and a simulated one are compared by. */
import { errnoName } from '@remora/core';
import type { HostSyscalls, IoctlArgument, MappedMemory } from '@remora/host';
import { viewOf } from '@remora/uapi';

/** Output of a call: numbers, hexadecimal text for what is 64 bits wide, lists and objects of these. */
export type Output = number | string | boolean | null | readonly Output[] | { readonly [name: string]: Output };

export interface Answer {
  /** Unique in its transcript: `group/open twice`. */
  readonly step: string;
  /** `fd` for a new descriptor, the name of an error, or the number. */
  readonly result: number | string;
  readonly out?: Output;
}

export class Script {
  readonly syscalls: HostSyscalls;
  readonly answers: Answer[] = [];
  readonly #steps = new Set<string>();
  #chapter = '';

  constructor(syscalls: HostSyscalls) {
    this.syscalls = syscalls;
  }

  /** Goes before the names of the steps that follow. */
  chapter(name: string): void {
    this.#chapter = name;
  }

  /** Takes an answer down. @throws Error for a name that was there before: a mistake in the script. */
  say(step: string, result: number | string, out?: Output): void {
    const name = `${this.#chapter}/${step}`;
    if (this.#steps.has(name)) throw new Error(`two steps are called ${name}`);
    this.#steps.add(name);
    const told = typeof result === 'number' && result < 0 ? errnoName(result) : result;
    this.answers.push({ step: name, result: told, ...(out === undefined ? {} : { out }) });
  }

  open(step: string, path: string): number {
    return this.#descriptor(step, this.syscalls.open(path));
  }

  /** An ioctl that gives a descriptor. */
  openBy(step: string, fd: number, request: number, argument?: IoctlArgument): number {
    return this.#descriptor(step, this.syscalls.ioctl(fd, request, argument));
  }

  /** `read` tells what of the structure is of interest; it is asked only if the call succeeded. Gives the result. */
  ioctl(
    step: string,
    fd: number,
    request: number,
    argument?: IoctlArgument,
    read?: (view: DataView) => Output,
  ): number {
    const result = this.syscalls.ioctl(fd, request, argument);
    this.say(step, result, result >= 0 && read !== undefined ? read(viewOf(argument as Uint8Array)) : undefined);
    return result;
  }

  close(fd: number): number {
    return fd < 0 ? fd : this.syscalls.close(fd);
  }

  /** Memory for a test. @throws Error if there is none: nothing can be tried then. */
  memory(bytes: number): MappedMemory {
    const mapped = this.syscalls.mmap(bytes);
    if (typeof mapped === 'number') throw new Error(`mmap of ${bytes} bytes: ${errnoName(mapped)}`);
    return mapped;
  }

  /** A multiple of `bytes`, with so many bytes there: an IOVA that the kernel chooses is aligned as the memory is. */
  alignedMemory(bytes: number): number {
    return Math.ceil(this.memory(2 * bytes).address / bytes) * bytes;
  }

  #descriptor(step: string, fd: number): number {
    this.say(step, fd >= 0 ? 'fd' : fd);
    return fd;
  }
}
