/**
 * Records every system call in the ledger, as the event that causes whatever the host does about it; those that only look (readlink,
 * readdir) if they fail. Off, a call costs one more boolean.
 */
import { hiOf, type Hva, loOf } from '@remora/bits';
import { type Ledger, MemTx, type Ram } from '@remora/core';
import {
  decodeIoctl,
  decodePayload,
  type ReadPayload,
  ioctlName,
  ioctlType,
  type UapiVariant,
  viewOf,
} from '@remora/uapi';
import { ForwardingSyscalls } from './forwarding-syscalls.js';
import type { HostSyscalls, IoctlArgument, MappedMemory } from './syscalls.js';

export class RecordingSyscalls extends ForwardingSyscalls {
  readonly #ledger: Ledger;
  readonly #source: string;
  readonly #variant: UapiVariant;
  /** Memory of the process, by address: structures point into it. */
  readonly #mapped = new Map<Hva, Ram>();

  /** `source` names the process in the ledger: `vm0/host-syscalls`. `variant` says what numbers mean that two series use. */
  constructor(next: HostSyscalls, ledger: Ledger, source: string, variant: UapiVariant = 'vsva-rfc-v3.1') {
    super(next);
    this.#ledger = ledger;
    this.#source = source;
    this.#variant = variant;
  }

  /**
   * An event of kind `ioctl`: fd, number, name, argsz, fields (decoded; `data` is what a pointer in it leads to), bytes (as handed over) and, once it has returned, result,
   * and `answer` if the host wrote into the bytes.
   */
  override ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    if (!this.#ledger.on) return super.ioctl(fd, request, argument);
    const bytes = argument instanceof Uint8Array ? argument.slice() : undefined;
    const data = {
      fd,
      ...described(request, argument, this.#variant, this.#payload),
      ...(bytes === undefined ? { argument } : { bytes }),
    };
    const id = this.#ledger.open(this.#source, 'ioctl', data);
    const result = super.ioctl(fd, request, argument);
    const changed =
      argument instanceof Uint8Array && bytes !== undefined && !argument.every((byte, at) => byte === bytes[at]);
    this.#ledger.close(id, changed ? { result, answer: argument.slice() } : { result });
    return result;
  }

  override open(path: string): number {
    return this.#recorded('open', { path }, () => super.open(path));
  }

  override readlink(path: string): string | number {
    return this.#looked('readlink', path, super.readlink(path));
  }

  override readdir(path: string): readonly string[] | number {
    return this.#looked('readdir', path, super.readdir(path));
  }

  override close(fd: number): number {
    return this.#recorded('close', { fd }, () => super.close(fd));
  }

  override pread(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#recorded('pread', { fd, offset, length: buffer.length }, () => super.pread(fd, buffer, offset));
  }

  override pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    return this.#recorded('pwrite', { fd, offset, bytes: buffer.slice() }, () => super.pwrite(fd, buffer, offset));
  }

  /** `bytes` are what was read. */
  override read(fd: number, buffer: Uint8Array): number {
    if (!this.#ledger.on) return super.read(fd, buffer);
    const id = this.#ledger.open(this.#source, 'syscall', { name: 'read', fd, length: buffer.length });
    const result = super.read(fd, buffer);
    this.#ledger.close(id, result > 0 ? { result, bytes: buffer.slice(0, result) } : { result });
    return result;
  }

  override write(fd: number, buffer: Uint8Array): number {
    return this.#recorded('write', { fd, bytes: buffer.slice() }, () => super.write(fd, buffer));
  }

  override mmap(length: number): MappedMemory | number {
    if (!this.#ledger.on) return this.#remembered(super.mmap(length));
    const id = this.#ledger.open(this.#source, 'syscall', { name: 'mmap', length });
    const mapped = this.#remembered(super.mmap(length));
    this.#ledger.close(id, { result: typeof mapped === 'number' ? mapped : mapped.address });
    return mapped;
  }

  override munmap(address: Hva, length: number): number {
    this.#mapped.delete(address);
    return this.#recorded('munmap', { address, length }, () => super.munmap(address, length));
  }

  override eventfd(): number {
    return this.#recorded('eventfd', {}, () => super.eventfd());
  }

  #looked<T extends string | readonly string[]>(name: string, path: string, result: T | number): T | number {
    if (this.#ledger.on && typeof result === 'number')
      this.#ledger.add(this.#source, 'syscall', { name, path, result });
    return result;
  }

  #remembered(mapped: MappedMemory | number): MappedMemory | number {
    if (typeof mapped === 'object') this.#mapped.set(mapped.address, mapped.ram);
    return mapped;
  }

  readonly #payload: ReadPayload = (address, length) => {
    for (const [start, ram] of this.#mapped) {
      const offset = address - start;
      if (offset < 0 || offset + length > ram.size) continue;
      const bytes = new Uint8Array(length);
      return ram.read(hiOf(offset), loOf(offset), bytes) === MemTx.OK ? bytes : undefined;
    }
    return undefined;
  };

  #recorded(name: string, data: Record<string, unknown>, call: () => number): number {
    if (!this.#ledger.on) return call();
    const id = this.#ledger.open(this.#source, 'syscall', { name, ...data });
    const result = call();
    this.#ledger.close(id, { result });
    return result;
  }
}

/** Number, name, argsz where there is a structure that has one, and the decoded argument. */
function described(
  request: number,
  argument: IoctlArgument,
  variant: UapiVariant,
  read: ReadPayload,
): Record<string, unknown> {
  const argsz = ioctlType(request, variant)?.struct?.specs['argsz'];
  const data = argument instanceof Uint8Array ? decodePayload(request, argument, read) : undefined;
  const sized = argsz !== undefined && argument instanceof Uint8Array && argument.length >= argsz.offset + argsz.size;
  return {
    number: request,
    name: ioctlName(request, variant),
    ...(sized ? { argsz: viewOf(argument).getUint32(argsz.offset, true) } : {}),
    fields: { ...decodeIoctl(request, argument, variant), ...(data === undefined ? {} : { data }) },
  };
}
