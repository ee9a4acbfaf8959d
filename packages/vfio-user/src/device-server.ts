/** Serves one device to one client at a time. */
import type { Duplex } from 'node:stream';
import { Connection } from './connection.js';
import { passesDescriptors } from './descriptors/passed.js';
import type { GuestMemory } from './guest-memory.js';
import type { RealTime } from './real-time.js';
import type { ServedDevice } from './served-device.js';

export interface DeviceServerOptions {
  /** Where the device's DMA goes: what clients map is added to it. */
  readonly memory: GuestMemory;
  /** Moves the device's clock while it is served; without it, time stands still. */
  readonly time?: RealTime;
  /** Takes what the person who serves the device should know, a line at a time. */
  readonly report?: (text: string) => void;
}

export class DeviceServer implements Disposable {
  readonly device: ServedDevice;
  readonly #options: DeviceServerOptions;
  #client: Connection | undefined;

  constructor(device: ServedDevice, options: DeviceServerOptions) {
    this.device = device;
    this.#options = options;
  }

  /** Whether a client is connected. */
  get busy(): boolean {
    return this.#client !== undefined;
  }

  /**
   * Takes a client. When it is gone, the device stays as it is, as the protocol wants it, but reaches nothing that the client had mapped.
   * While there is one, others are turned away; but one that never said anything does not keep the device for itself.
   */
  accept(stream: Duplex): void {
    const { memory, time, report = () => undefined } = this.#options;
    if (this.#client?.agreed === false) this.#client[Symbol.dispose]();
    if (this.#client !== undefined) {
      report(`${this.device.name}: a second client is turned away`);
      stream.on('error', () => undefined).destroy();
      return;
    }
    const passing = passesDescriptors(stream) ? stream.system : undefined;
    const channel = memory.messages?.channel(stream, this.device.name);
    if (memory.messages !== undefined && channel === undefined) {
      report(`${this.device.name}: a client is turned away: memory by message takes a socket of Node's`);
      stream.on('error', () => undefined).destroy();
      return;
    }
    this.#client = new Connection(stream, {
      device: this.device,
      memory: memory.attach(passing, channel),
      channel,
      report,
      before: time && (() => time.advance()),
      after: time && (() => time.arm()),
      ended: () => (this.#client = undefined),
    });
  }

  /** An interrupt message of the device: the DWORD `data` at `(hi, lo)`. False if nobody is there to take it. */
  message(hi: number, lo: number, data: number): boolean {
    return this.#client?.message(hi, lo, data) ?? false;
  }

  /** The device has asserted its interrupt pin, or let go of it. */
  pinChanged(): void {
    this.#client?.pinChanged();
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#client?.[Symbol.dispose]();
  }
}
