import { hiOf, loOf, numberOf } from '@remora/bits';
import { Errno } from '@remora/core';
import type { HostFile } from './host-file.js';
import { Readiness } from './readiness.js';

const BYTES = 8;

/** eventfd(2), not a semaphore: a counter that a read takes whole. */
export class EventFd implements HostFile {
  readonly kind = 'eventfd';
  #count = 0;
  readonly #readiness = new Readiness();

  /** The kernel's own write of 1. */
  signal(): void {
    this.#add(1);
  }

  /** Calls `ready` when there is something to read, at once if there is. */
  onReadable(ready: () => void): Disposable {
    return this.#readiness.listen(ready, this.#count > 0);
  }

  read(buffer: Uint8Array): number {
    if (buffer.length < BYTES) return -Errno.EINVAL;
    if (this.#count === 0) return -Errno.EAGAIN;
    const view = new DataView(buffer.buffer, buffer.byteOffset, BYTES);
    view.setUint32(0, loOf(this.#count), true);
    view.setUint32(4, hiOf(this.#count), true);
    this.#count = 0;
    return BYTES;
  }

  write(buffer: Uint8Array): number {
    if (buffer.length < BYTES) return -Errno.EINVAL;
    const view = new DataView(buffer.buffer, buffer.byteOffset, BYTES);
    const value = numberOf(view.getUint32(4, true), view.getUint32(0, true));
    if (!Number.isSafeInteger(this.#count + value)) return -Errno.EAGAIN;
    this.#add(value);
    return BYTES;
  }

  release(): void {
    this.#readiness.close();
  }

  state(): unknown {
    return { count: this.#count };
  }

  #add(value: number): void {
    this.#count += value;
    if (value > 0) this.#readiness.signal();
  }
}
