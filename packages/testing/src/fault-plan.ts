/**
 * FaultPlan: a host that fails where a test wants it to. Faults are data: which call, which occurrence of it, and what happens
 * instead; armed by the test, counted, and gone when they are used up.
 */
import type { Hva } from '@remora/bits';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument, type MappedMemory } from '@remora/host';

export type SyscallName =
  | 'open'
  | 'readlink'
  | 'readdir'
  | 'close'
  | 'ioctl'
  | 'pread'
  | 'pwrite'
  | 'read'
  | 'write'
  | 'mmap'
  | 'munmap'
  | 'eventfd';

/** A call on its way to the host. */
export interface SeenCall {
  readonly op: SyscallName;
  /** The ioctl's number; 0 for other calls. */
  readonly request: number;
  /** The ioctl's argument. */
  readonly argument?: IoctlArgument;
  /** The path of open, readlink and readdir. */
  readonly path?: string;
}

export interface Fault {
  /** Default: 'ioctl'. */
  readonly op?: SyscallName;
  /** The ioctl's number; any if absent. */
  readonly request?: number;
  /** A further condition. */
  readonly when?: (call: SeenCall) => boolean;
  /** The first call that fails, counted from 1 among those that match after arming; default 1. */
  readonly nth?: number;
  /** How many calls fail from there on; default 1. */
  readonly times?: number;
  /**
   * A negated errno that the caller gets without the host being asked; or 'swallow': the caller gets 0 and the host never hears
   * of it.
   */
  readonly result: number | 'swallow';
}

/** An armed fault: how often it matched, and how often it struck. */
export interface ArmedFault extends Disposable {
  readonly matched: number;
  readonly struck: number;
}

class Armed implements ArmedFault {
  matched = 0;
  struck = 0;
  readonly #fault: Fault;
  readonly #disarm: (armed: Armed) => void;

  constructor(fault: Fault, disarm: (armed: Armed) => void) {
    this.#fault = fault;
    this.#disarm = disarm;
  }

  strikes(call: SeenCall): boolean {
    const { op = 'ioctl', request, when, nth = 1, times = 1 } = this.#fault;
    if (call.op !== op || (request !== undefined && call.request !== request)) return false;
    if (when !== undefined && !when(call)) return false;
    this.matched++;
    if (this.matched < nth || this.matched >= nth + times) return false;
    this.struck++;
    return true;
  }

  get result(): number {
    return this.#fault.result === 'swallow' ? 0 : this.#fault.result;
  }

  [Symbol.dispose](): void {
    this.#disarm(this);
  }
}

export class FaultPlan extends ForwardingSyscalls {
  readonly #armed: Armed[] = [];

  constructor(next: HostSyscalls) {
    super(next);
  }

  /** Arms `fault` until it is disposed of; of several that match a call, the one armed first decides. */
  arm(fault: Fault): ArmedFault {
    const armed = new Armed(fault, which => {
      const index = this.#armed.indexOf(which);
      if (index >= 0) this.#armed.splice(index, 1);
    });
    this.#armed.push(armed);
    return armed;
  }

  override open(path: string): number {
    return this.#struck({ op: 'open', request: 0, path })?.result ?? super.open(path);
  }

  override readlink(path: string): string | number {
    return this.#struck({ op: 'readlink', request: 0, path })?.result ?? super.readlink(path);
  }

  override readdir(path: string): readonly string[] | number {
    return this.#struck({ op: 'readdir', request: 0, path })?.result ?? super.readdir(path);
  }

  /** A close that is made to fail still closes, as Linux does; one that is swallowed leaks. */
  override close(fd: number): number {
    const fault = this.#struck({ op: 'close', request: 0 });
    if (fault !== undefined && fault.result !== 0) super.close(fd);
    return fault?.result ?? super.close(fd);
  }

  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const call: SeenCall = argument === undefined ? { op: 'ioctl', request } : { op: 'ioctl', request, argument };
    return this.#struck(call)?.result ?? super.ioctl(fd, request, argument);
  }

  override pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#struck({ op: 'pread', request: 0 })?.result ?? super.pread(fd, buffer, offset);
  }

  override pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#struck({ op: 'pwrite', request: 0 })?.result ?? super.pwrite(fd, buffer, offset);
  }

  override read(fd: number, buffer: Uint8Array): number {
    return this.#struck({ op: 'read', request: 0 })?.result ?? super.read(fd, buffer);
  }

  override write(fd: number, buffer: Uint8Array): number {
    return this.#struck({ op: 'write', request: 0 })?.result ?? super.write(fd, buffer);
  }

  override mmap(length: number): MappedMemory | number {
    return this.#struck({ op: 'mmap', request: 0 })?.result ?? super.mmap(length);
  }

  override munmap(address: Hva, length: number): number {
    return this.#struck({ op: 'munmap', request: 0 })?.result ?? super.munmap(address, length);
  }

  override eventfd(): number {
    return this.#struck({ op: 'eventfd', request: 0 })?.result ?? super.eventfd();
  }

  #struck(call: SeenCall): Armed | undefined {
    return this.#armed.filter(armed => armed.strikes(call))[0];
  }
}
