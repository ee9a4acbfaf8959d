/** What faults and events have in common: an object of an iommufd whose contents user space reads through a descriptor of its own. */
import type { HostFile } from '../../files/host-file.js';
import { Readiness } from '../../files/readiness.js';
import type { IommufdContext } from './context.js';
import { IommufdObject } from './objects.js';

export abstract class EventQueue extends IommufdObject {
  /** Who waits for the descriptor. */
  protected readonly readiness = new Readiness();
  #open = false;

  /**
   * Makes it an object of `context`, with a descriptor of the process that makes the call: returns that, or a negated errno, and it is gone. While the
   * descriptor is open the object stays, and its iommufd.
   */
  publish(context: IommufdContext): number {
    const failed = context.objects.add(this);
    if (failed !== 0) return failed;
    this.#open = true;
    this.users++;
    context.hold();
    const close = (): void => {
      this.#open = false;
      this.users--;
      this.readiness.close();
      context.drop();
    };
    const fd = context.process.addFile(new EventQueueFile(this, close));
    if (fd < 0) context.objects.remove(this);
    return fd;
  }

  /** Whether somebody can still read it. */
  get open(): boolean {
    return this.#open;
  }

  onReadable(ready: () => void): Disposable {
    return this.readiness.listen(ready, this.readable);
  }

  abstract get readable(): boolean;
  /** read(2). */
  abstract read(buffer: Uint8Array): number;
  /** write(2), where there is one. */
  write?(buffer: Uint8Array): number;
}

class EventQueueFile implements HostFile {
  readonly kind: string;
  readonly #queue: EventQueue;
  readonly #close: () => void;

  constructor(queue: EventQueue, close: () => void) {
    this.kind = queue.kind;
    this.#queue = queue;
    this.#close = close;
    if (queue.write !== undefined) this.write = buffer => queue.write!(buffer);
  }

  write?: (buffer: Uint8Array) => number;

  read(buffer: Uint8Array): number {
    return this.#queue.read(buffer);
  }

  onReadable(ready: () => void): Disposable {
    return this.#queue.onReadable(ready);
  }

  release(): void {
    this.#close();
  }

  state(): unknown {
    return { id: this.#queue.id, readable: this.#queue.readable };
  }
}
