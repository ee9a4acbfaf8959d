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
import { SharedFile } from './shared-file.js';

export interface GuestMemoryOptions {
  /** The file; it need not be there before the first map. Without one, nothing can be reached. */
  readonly file?: string | undefined;
  /** Takes what the person who serves the device should know. */
  readonly report?: (text: string) => void;
}

export class GuestMemory implements MemoryPort, Disposable {
  readonly #path: string | undefined;
  readonly #report: (text: string) => void;
  readonly #clients: DmaMaps[] = [];
  #file: SharedFile | undefined;

  constructor({ file, report = () => undefined }: GuestMemoryOptions = {}) {
    this.#path = file;
    this.#report = report;
  }

  /** A further client, which has mapped nothing yet. With `system` it passes the files that memory is in. */
  attach(system?: DescriptorSystem): ClientMemory {
    const files = system && new PassedFiles(system, this.#report);
    const maps = new DmaMaps(({ file }) => file && files?.release(file));
    this.#clients.push(maps);
    return new ClientMemory(maps, files, {
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

/** One client's part in a GuestMemory; disposed of, what the client had mapped is gone. */
export class ClientMemory implements Disposable {
  readonly #maps: DmaMaps;
  readonly #files: PassedFiles | undefined;
  readonly #owner: { readonly check: (request: DmaMapRequest) => number; readonly gone: () => void };

  /** Made by GuestMemory. */
  constructor(
    maps: DmaMaps,
    files: PassedFiles | undefined,
    owner: { check: (request: DmaMapRequest) => number; gone: () => void },
  ) {
    this.#maps = maps;
    this.#files = files;
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
    if (this.#files === undefined) return this.#map(request);
    const backing = passed === undefined ? 'none' : this.#files.take(passed, request);
    if (typeof backing === 'number') return backing;
    const error = this.#map({ ...request, backing });
    if (error !== 0 && backing !== 'none') this.#files.release(backing);
    return error;
  }

  #map(request: DmaMapRequest): number {
    const error = this.#maps.map(request);
    if (error !== 0) return error;
    const missing = this.#owner.check(request);
    if (missing !== 0) this.#maps.unmap(request.address, request.size);
    return missing;
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
