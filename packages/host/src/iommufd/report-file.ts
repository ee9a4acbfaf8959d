/** A file that reports come out of, in records: reading it when it becomes readable, and never within something else. */
import { Errno } from '@remora/core';
import type { HostSyscalls } from '../syscalls.js';

const FIRST_BYTES = 4096;
/** More than the largest group of page requests takes. */
const MAX_BYTES = 0x1_0000;

export class ReportFile implements Disposable {
  readonly #syscalls: HostSyscalls;
  readonly #fd: number;
  readonly #record: number;
  readonly #take: (bytes: Uint8Array) => void;
  readonly #registration: Disposable;
  #buffer: Uint8Array;
  #held = 0;
  #waiting = false;
  #reading = false;
  #open = true;

  /** Owns `fd`. `take` is given whole records; `recordBytes` is a size that the host's reads are multiples of. */
  constructor(syscalls: HostSyscalls, fd: number, recordBytes: number, take: (bytes: Uint8Array) => void) {
    this.#syscalls = syscalls;
    this.#fd = fd;
    this.#record = recordBytes;
    this.#take = take;
    this.#buffer = this.#room(FIRST_BYTES);
    this.#registration = syscalls.onReadable(fd, () => this.#ready());
  }

  /** Reports wait from here until `release`: an operation is under way that they must not cut in two. */
  hold(): void {
    this.#held++;
  }

  release(): void {
    if (--this.#held === 0 && this.#waiting) this.#ready();
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#registration[Symbol.dispose]();
    this.#syscalls.close(this.#fd);
  }

  #ready(): void {
    this.#waiting = true;
    if (this.#held > 0 || this.#reading) return;
    this.#reading = true;
    try {
      this.#readAll();
    } finally {
      this.#reading = false;
    }
  }

  #readAll(): void {
    while (this.#waiting && this.#open) {
      const result = this.#syscalls.read(this.#fd, this.#buffer);
      if (result === -Errno.EINVAL && this.#buffer.length < MAX_BYTES / 2) {
        // The next record is one that belongs together and is longer.
        this.#buffer = this.#room(2 * this.#buffer.length);
        continue;
      }
      if (result <= 0) this.#waiting = false;
      else this.#take(this.#buffer.subarray(0, result));
    }
  }

  #room(bytes: number): Uint8Array {
    return new Uint8Array(Math.ceil(bytes / this.#record) * this.#record);
  }
}
