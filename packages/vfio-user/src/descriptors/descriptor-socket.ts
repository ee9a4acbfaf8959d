/** A connected UNIX socket as a stream that keeps the descriptors which come with its bytes: Node's own sockets drop them. */
import { Duplex } from 'node:stream';
import { PollEvent, type Watch } from '@remora/host-linux';
import { Boundaries } from './boundaries.js';
import { type DescriptorStream, type DescriptorSystem, type Passed, PassedDescriptor } from './passed.js';

/** Pieces that are read before others get their turn. */
const PIECES_AT_ONCE = 256;

interface Arrival extends Passed {
  /** Of the first byte that they came with. */
  readonly position: number;
}

interface Sending {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
  readonly done: (failure?: Error) => void;
}

export class DescriptorSocket extends Duplex implements DescriptorStream {
  readonly system: DescriptorSystem;
  readonly #fd: number;
  readonly #watch: Watch;
  readonly #boundaries = new Boundaries();
  readonly #arrivals: Arrival[] = [];
  /** What goes with a chunk that is to be written. */
  readonly #attached = new WeakMap<Uint8Array, readonly number[]>();
  #position = 0;
  #reading = false;
  #sending: Sending | undefined;

  /** `fd` never waits; it is closed with the stream. */
  constructor(system: DescriptorSystem, fd: number) {
    super({ allowHalfOpen: false });
    this.system = system;
    this.#fd = fd;
    this.#watch = system.poller.watch(fd, events => this.#ready(events));
  }

  /** Writes `bytes`; `descriptors` go with the first of them. They are the caller's, who closes them when they were sent. */
  writeWith(bytes: Uint8Array, descriptors: readonly number[]): void {
    // A Buffer is written as it is, not as another one.
    const chunk = Buffer.from(bytes);
    this.#attached.set(chunk, descriptors);
    this.write(chunk);
  }

  takePassed(position: number): Passed {
    let count = 0;
    while (count < this.#arrivals.length && this.#arrivals[count]!.position < position) count++;
    const taken = this.#arrivals.splice(0, count);
    return {
      descriptors: taken.flatMap(each => each.descriptors),
      truncated: taken.some(each => each.truncated),
    };
  }

  override _read(): void {
    this.#reading = true;
    this.#wait();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (failure?: Error | null) => void): void {
    this.#sending = { bytes: chunk, descriptors: this.#attached.get(chunk) ?? [], done };
    this.#send();
  }

  override _final(done: () => void): void {
    this.system.libc.shutdown(this.#fd);
    done();
  }

  override _destroy(failure: Error | null, done: (failure: Error | null) => void): void {
    this.#watch[Symbol.dispose]();
    for (const { descriptors } of this.#arrivals) for (const each of descriptors) each[Symbol.dispose]();
    this.#arrivals.length = 0;
    this.system.libc.close(this.#fd);
    done(failure);
  }

  #wait(): void {
    this.#watch.events = (this.#reading ? PollEvent.IN : 0) | (this.#sending === undefined ? 0 : PollEvent.OUT);
  }

  #ready(events: number): void {
    if (this.#sending !== undefined && (events & ~PollEvent.IN) !== 0) this.#send();
    if (this.#reading && !this.destroyed && (events & ~PollEvent.OUT) !== 0) this.#receive();
    this.#wait();
  }

  #send(): void {
    const { bytes, descriptors, done } = this.#sending!;
    try {
      const sent = this.system.libc.send(this.#fd, bytes, descriptors);
      this.#sending = undefined;
      if (sent === bytes.length) done();
      else this.#sending = { bytes: bytes.subarray(sent), descriptors: sent === 0 ? descriptors : [], done };
    } catch (failure) {
      this.#sending = undefined;
      done(failure as Error);
    }
    this.#wait();
  }

  #receive(): void {
    try {
      for (let pieces = 0; pieces < PIECES_AT_ONCE && this.#reading && !this.destroyed; pieces++) {
        const got = this.system.libc.receive(this.#fd, this.#boundaries.wanted);
        if (got === undefined) return;
        const { bytes, descriptors, truncated } = got;
        if (descriptors.length > 0 || truncated) {
          const held = descriptors.map(fd => new PassedDescriptor(this.system.libc, fd));
          this.#arrivals.push({ descriptors: held, truncated, position: this.#position });
        }
        if (bytes.length === 0) {
          this.#reading = false;
          this.push(null);
          return;
        }
        this.#position += bytes.length;
        this.#boundaries.took(bytes);
        // What is pushed may be asked for more at once, by _read.
        this.#reading = false;
        if (this.push(Uint8Array.from(bytes))) this.#reading = true;
      }
    } catch (failure) {
      this.destroy(failure as Error);
    }
  }
}
