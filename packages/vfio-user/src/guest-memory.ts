/**
 * A guest's memory as its devices here reach it: what their clients have mapped, in the file that the memory is in, or that clients pass
 * with each map. Whatever lies outside is an error of the bus, and no file is touched there.
 *
 * All clients of one GuestMemory are devices of one guest: each may reach what any of them has mapped.
 */
import { ConfigError, Errno, type MemoryPort, MemTx } from '@remora/core';
import { PassedFiles } from './descriptors/passed-files.js';
import type { DescriptorSystem, PassedDescriptor } from './descriptors/passed.js';
import { DmaMaps, type DmaMapRequest, type DmaRange } from './dma-maps.js';
import { MessageMemory } from './message-memory.js';
import { type GuestFile, SharedFile } from './shared-file.js';

export interface GuestMemoryOptions {
  /** The file; it need not be there before the first map. Without one, nothing can be reached. */
  readonly file?: string | undefined;
  /**
   * Memory is reached by messages to the clients, which answer each transfer: slow, and not while a client waits for an answer itself. There
   * is no file, then. `looks`: how often to look for an answer before a client is given up; it is a millisecond from one to the next.
   */
  readonly messages?: boolean | { readonly looks: number };
  /** Takes what the person who serves the device should know. */
  readonly report?: (text: string) => void;
}

export class GuestMemory implements MemoryPort, Disposable {
  /** How clients are asked, if memory is reached by messages. */
  readonly messages: MessageMemory | undefined;
  readonly #path: string | undefined;
  readonly #report: (text: string) => void;
  readonly #clients: DmaMaps[] = [];
  #file: SharedFile | undefined;

  /** @throws ConfigError for a file and messages. */
  constructor({ file, messages = false, report = () => undefined }: GuestMemoryOptions = {}) {
    if (file !== undefined && messages !== false)
      throw new ConfigError('memory', `${file} and by message: expected one of the two`);
    this.messages =
      messages === false ? undefined : new MessageMemory(report, messages === true ? undefined : messages.looks);
    this.#path = file;
    this.#report = report;
  }

  /**
   * A further client, which has mapped nothing yet. With `system` it passes the files that memory is in; with `channel` it is asked for what is
   * in its memory.
   */
  attach(system?: DescriptorSystem, channel?: GuestFile): ClientMemory {
    const files = system && new PassedFiles(system, this.#report);
    const maps = new DmaMaps(({ file }) => file && files?.release(file));
    this.#clients.push(maps);
    return new ClientMemory(maps, {
      files,
      whole: channel,
      check: request => this.#check(request),
      gone: () => this.#gone(maps),
    });
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    return this.#transfer(hi, lo, out, false);
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    return this.#transfer(hi, lo, from, true);
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    return this.#transfer(hi, lo, bytesOf(out, at, count), false);
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    return this.#transfer(hi, lo, bytesOf(from, at, count), true);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    for (const maps of this.#clients) maps.clear();
    this.#clients.length = 0;
    this.#closeFile();
  }

  /** Whether the file has what is asked for; it is opened for that. Returns 0 or a Linux error number. */
  #check({ offset, size, backing }: DmaMapRequest): number {
    if (this.#path === undefined || backing !== undefined) return 0;
    try {
      this.#file ??= new SharedFile(this.#path);
    } catch (failure) {
      if (!(failure instanceof ConfigError)) throw failure;
      this.#report(failure.message);
      return Errno.ENOENT;
    }
    if (offset + size <= BigInt(this.#file.size)) return 0;
    const problem = `memory: ${this.#path} has ${this.#file.size} bytes, and the client maps up to ${offset + size}`;
    this.#report(`${problem}: is it the file of this guest's memory-backend-file?`);
    return Errno.EINVAL;
  }

  /** The file is closed after the last client: the next guest may have made another one with the same name. */
  #gone(maps: DmaMaps): void {
    maps.clear();
    const index = this.#clients.indexOf(maps);
    if (index >= 0) this.#clients.splice(index, 1);
    if (this.#clients.length === 0) this.#closeFile();
  }

  #closeFile(): void {
    this.#file?.[Symbol.dispose]();
    this.#file = undefined;
  }

  /** A write changes nothing unless all of it may be written. */
  #transfer(hi: number, lo: number, bytes: Uint8Array, write: boolean): MemTx {
    const address = (hi >>> 0) * 2 ** 32 + (lo >>> 0);
    const range = this.#find(address);
    if (range !== undefined && address + bytes.length <= range.end) return this.#inRange(range, address, bytes, write);
    if (write && !this.#writeable(address, bytes.length)) return MemTx.DECODE_ERROR;
    for (let done = 0; done < bytes.length;) {
      const part = this.#find(address + done);
      if (part === undefined) return MemTx.DECODE_ERROR;
      const run = Math.min(bytes.length - done, part.end - address - done);
      const result = this.#inRange(part, address + done, bytes.subarray(done, done + run), write);
      if (result !== MemTx.OK) return result;
      done += run;
    }
    return MemTx.OK;
  }

  #inRange(range: DmaRange, address: number, bytes: Uint8Array, write: boolean): MemTx {
    const { delta, file = this.#file } = range;
    if (!(write ? range.writeable : range.readable) || delta === undefined) return MemTx.DECODE_ERROR;
    if (file === undefined) return MemTx.DECODE_ERROR;
    return write ? file.write(address + delta, bytes) : file.read(address + delta, bytes);
  }

  #writeable(address: number, length: number): boolean {
    for (let at = address; at < address + length;) {
      const range = this.#find(at);
      if (range?.delta === undefined || !range.writeable) return false;
      at = range.end;
    }
    return true;
  }

  #find(address: number): DmaRange | undefined {
    for (const maps of this.#clients) {
      const range = maps.find(address);
      if (range !== undefined) return range;
    }
    return undefined;
  }
}

interface ClientMemoryOwner {
  /** What the client passes. */
  readonly files: PassedFiles | undefined;
  /** All of its memory is there, each address at the position of the same number. */
  readonly whole: GuestFile | undefined;
  readonly check: (request: DmaMapRequest) => number;
  readonly gone: () => void;
}

/** One client's part in a GuestMemory; disposed of, what the client had mapped is gone. */
export class ClientMemory implements Disposable {
  readonly #maps: DmaMaps;
  readonly #owner: ClientMemoryOwner;

  /** Made by GuestMemory. */
  constructor(maps: DmaMaps, owner: ClientMemoryOwner) {
    this.#maps = maps;
    this.#owner = owner;
  }

  /** Ascending by address. */
  get ranges(): readonly DmaRange[] {
    return this.#maps.ranges;
  }

  /**
   * Returns 0 or a Linux error number, and nothing has changed then. See DmaMaps.map; ENOENT, EINVAL: the file does not have it; EACCES: what
   * was passed must not be used so.
   */
  map(request: Omit<DmaMapRequest, 'backing'>, passed?: PassedDescriptor): number {
    const { files, whole } = this.#owner;
    if (whole !== undefined) return this.#map({ ...request, offset: request.address, backing: whole });
    if (files === undefined) return this.#map(request);
    const backing = passed === undefined ? 'none' : files.take(passed, request);
    if (typeof backing === 'number') return backing;
    const error = this.#map({ ...request, backing });
    if (error !== 0 && backing !== 'none') files.release(backing);
    return error;
  }

  #map(request: DmaMapRequest): number {
    const error = this.#maps.map(request);
    if (error !== 0) return error;
    const missing = this.#owner.check(request);
    if (missing !== 0) this.#maps.unmap(request.address, request.size);
    return missing;
  }

  /** Whether all of these bytes are mapped for that, in one range. */
  covers(address: number, length: number, write: boolean): boolean {
    const range = this.#maps.find(address);
    if (range === undefined || address + length > range.end) return false;
    return write ? range.writeable : range.readable;
  }

  /** Returns 0 or a Linux error number. */
  unmap(address: bigint, size: bigint): number {
    return this.#maps.unmap(address, size);
  }

  unmapAll(): void {
    this.#maps.clear();
  }

  [Symbol.dispose](): void {
    this.#owner.gone();
  }
}

function bytesOf(words: Int32Array, at: number, count: number): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset + at * 4, count * 4);
}
