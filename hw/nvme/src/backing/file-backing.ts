/** A namespace in a file. The file is not part of a machine's state: it stays where it is, as a disk does. */
import { closeSync, constants, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { ConfigError, logger, rateLimited, type StateReader, type StateWriter } from '@remora/core';
import type { Backing } from './backing.js';

const ZEROES = new Uint8Array(1 << 20);

export interface FileOptions {
  readonly path: string;
  readonly readonly: boolean;
  /** In bytes; by default as large as the file is. */
  readonly size: number | undefined;
}

export class FileBacking implements Backing {
  readonly size: number;
  readonly zeroes = false;
  readonly place: string;
  readonly #fd: number;
  /** Whether the namespace is the whole file. */
  readonly #whole: boolean;
  #open = true;

  private constructor(fd: number, place: string, size: number, whole: boolean) {
    this.#fd = fd;
    this.#whole = whole;
    this.place = place;
    this.size = size;
  }

  /** @throws ConfigError at `file` or `size` if it cannot be opened, is no regular file, or is too small. */
  static open({ path, readonly, size }: FileOptions): FileBacking {
    let fd: number;
    try {
      fd = openSync(path, readonly ? constants.O_RDONLY : constants.O_RDWR);
    } catch (cause) {
      throw new ConfigError('file', (cause as Error).message, { cause });
    }
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw new ConfigError('file', `"${path}" is not a regular file`);
      if (size !== undefined && size > stat.size)
        throw new ConfigError('size', `"${path}" has ${stat.size} bytes, which is less than ${size}`);
      return new FileBacking(fd, path, size ?? stat.size, size === undefined || size === stat.size);
    } catch (failure) {
      closeSync(fd);
      throw failure;
    }
  }

  read(offset: number, out: Uint8Array): boolean {
    return this.#attempt('read', () => {
      for (let done = 0; done < out.length;) {
        const count = readSync(this.#fd, out, done, out.length - done, offset + done);
        if (count === 0) throw new Error('the file has become shorter');
        done += count;
      }
    });
  }

  write(offset: number, from: Uint8Array): boolean {
    return this.#attempt('write', () => {
      for (let done = 0; done < from.length;) {
        done += writeSync(this.#fd, from, done, from.length - done, offset + done);
      }
    });
  }

  zero(offset: number, length: number): boolean {
    for (let done = 0; done < length; done += ZEROES.length) {
      if (!this.write(offset + done, ZEROES.subarray(0, Math.min(length - done, ZEROES.length)))) return false;
    }
    return true;
  }

  /** A file that is all the namespace's loses its blocks and gets its size back: that takes no longer for a large one. */
  erase(): boolean {
    if (!this.#whole) return this.zero(0, this.size);
    return this.#attempt('erase', () => {
      ftruncateSync(this.#fd, 0);
      ftruncateSync(this.#fd, this.size);
    });
  }

  /** A file keeps its blocks. */
  deallocate(): void {}

  flush(): boolean {
    return this.#attempt('flush', () => fdatasyncSync(this.#fd));
  }

  allocated(): number {
    return this.size;
  }

  /** How large it is must not change; its contents are the file's. */
  save(into: StateWriter): void {
    into.integer('size', this.size);
  }

  load(from: StateReader): void {
    const size = from.integer('size');
    if (size !== this.size) throw from.problem('size', `${size} found, the file has ${this.size}`);
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  #attempt(what: string, action: () => void): boolean {
    try {
      action();
      return true;
    } catch (failure) {
      log.warn('%s: %s: %s', this.place, what, (failure as Error).message);
      return false;
    }
  }
}

const log = rateLimited(logger('remora:hw:nvme'), 20);
