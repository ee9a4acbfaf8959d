/** Serving clients that pass descriptors: their guest's memory with DMA_MAP, and event descriptors for interrupts with SET_IRQS. */
import { rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { Poller, PollEvent, type Watch } from '@remora/host-linux';
import { claimSocketPath } from '../listen.js';
import { DescriptorSocket } from './descriptor-socket.js';
import { Libc } from './libc.js';
import type { DescriptorSystem } from './passed.js';

/** A server that may open no more files waits until others have closed some. */
const PAUSE_MS = 100;

/** One for all: a poll occupies a thread. */
let common: DescriptorSystem | undefined;

export class Descriptors implements DescriptorSystem {
  readonly libc: Libc;
  readonly poller: Poller;

  /** @throws ConfigError at `path`, about what they are for, if koffi is not installed, or this system cannot. */
  constructor(path = 'descriptors', purpose = 'to be passed descriptors') {
    common ??= systemOf(new Libc(path, purpose));
    this.libc = common.libc;
    this.poller = common.poller;
  }

  /** As `listen`, and the streams bring descriptors. @throws ConfigError */
  async listen(path: string, take: (stream: Duplex) => void): Promise<Disposable> {
    await claimSocketPath(path);
    const fd = this.libc.listen(path);
    const watch = this.poller.watch(fd, () => this.#accept(watch, take));
    watch.events = PollEvent.IN;
    return {
      [Symbol.dispose]: () => {
        watch[Symbol.dispose]();
        this.libc.close(fd);
        rmSync(path, { force: true });
      },
    };
  }

  /** A stream to the server that listens at `path`. @throws SystemCallError */
  connect(path: string): DescriptorSocket {
    return new DescriptorSocket(this, this.libc.connect(path));
  }

  #accept(watch: Watch, take: (stream: Duplex) => void): void {
    let client: number | undefined;
    try {
      client = this.libc.accept(watch.fd);
    } catch {
      watch.events = 0;
      setTimeout(() => (watch.events = PollEvent.IN), PAUSE_MS);
    }
    if (client !== undefined) take(new DescriptorSocket(this, client));
  }
}

function systemOf(libc: Libc): DescriptorSystem {
  return { libc, poller: new Poller(libc) };
}
