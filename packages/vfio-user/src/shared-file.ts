/**
 * The file that a VMM keeps its guest's memory in (`memory-backend-file`, `share=on`): read and written in place, synchronously. It is not
 * mapped into memory: whoever cuts a file short kills those who look beyond its end, and Node can do nothing about it.
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { ConfigError, MemTx } from '@remora/core';

/** Memory of a guest, by positions in the file that it is in. */
export interface GuestFile extends Disposable {
  /** Fills `out` from byte `position` on. ERROR if the file ends before, or cannot be read. */
  read(position: number, out: Uint8Array): MemTx;
  /** Writes all of `from`. ERROR if it cannot be written. */
  write(position: number, from: Uint8Array): MemTx;
}

export class SharedFile implements GuestFile {
  readonly path: string;
  readonly #fd: number;
  readonly #close: () => void;

  /**
   * Without `opened`, which is closed with it, the file is opened. @throws ConfigError if it cannot be opened for reading and writing, or is
   * no regular file.
   */
  constructor(path: string, opened?: { readonly fd: number; close(): void }) {
    this.path = path;
    const fd = opened?.fd ?? openShared(path);
    this.#fd = fd;
    this.#close = opened === undefined ? () => closeSync(fd) : () => opened.close();
  }

  /** Its size now, in bytes. */
  get size(): number {
    return fstatSync(this.#fd).size;
  }

  read(position: number, out: Uint8Array): MemTx {
    return transfer(readSync, this.#fd, position, out);
  }

  /** What is mapped was inside the file when it was mapped. */
  write(position: number, from: Uint8Array): MemTx {
    return transfer(writeSync, this.#fd, position, from);
  }

  [Symbol.dispose](): void {
    this.#close();
  }
}

function openShared(path: string): number {
  let fd: number;
  try {
    // A named pipe would keep an open() without O_NONBLOCK waiting for ever.
    fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ConfigError('memory', `${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new ConfigError('memory', `${path} is no regular file`);
}

type Call = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number) => number;

function transfer(call: Call, fd: number, position: number, bytes: Uint8Array): MemTx {
  try {
    for (let done = 0; done < bytes.length;) {
      const moved = call(fd, bytes, done, bytes.length - done, position + done);
      if (moved === 0) return MemTx.ERROR;
      done += moved;
    }
    return MemTx.OK;
  } catch {
    return MemTx.ERROR;
  }
}
