/** Registers of the guest's configuration space whose truth is in the host function's. */
import type { Log } from '@remora/core';
import type { VfioDevice } from '@remora/host';
import { Command, Config, type PciFunction } from '@remora/pci';
import type { ForwardedCapability } from './header.js';

const HEADER_BYTES = 2;
const NOT_FORWARDED = -1;

export class ForwardedConfig {
  readonly #fn: PciFunction;
  readonly #device: VfioDevice;
  readonly #log: Log;
  /** By offset in the guest's space: the offset in the host's, or NOT_FORWARDED. */
  readonly #host: Int16Array;
  #command = 0;

  constructor(fn: PciFunction, device: VfioDevice, log: Log) {
    this.#fn = fn;
    this.#device = device;
    this.#log = log;
    this.#host = new Int16Array(fn.config.size).fill(NOT_FORWARDED);
    const whole = { start: 0, end: fn.config.size };
    fn.config.onRead(whole, (offset, size) => this.#fetch(offset, size));
    fn.config.onWrite(whole, (offset, size) => this.#send(offset, size));
    fn.config.onWrite({ start: Config.COMMAND, end: Config.COMMAND + 2 }, () => this.#sendCommand());
  }

  /** Shows `capability`: its body is read and written at the host. The guest's chain has an offset of its own for it. */
  add(capability: ForwardedCapability): void {
    const body = new Uint8Array(capability.bytes - HEADER_BYTES);
    const offset = this.#fn.addCapability(
      capability.id,
      body,
      body.map(() => 0xff),
    );
    for (let i = HEADER_BYTES; i < capability.bytes; i++) this.#host[offset + i] = capability.offset + i;
  }

  /** The guest's registers were loaded: the host's function is told what they say. */
  resume(): void {
    this.#sendCommand();
  }

  /** What the guest may do on the bus, the host's function may do: memory and I/O decoding, bus mastering. */
  #sendCommand(): void {
    const command = this.#fn.config.get16(Config.COMMAND) & (Command.IO | Command.MEMORY | Command.MASTER);
    if (command === this.#command) return;
    this.#command = command;
    this.#warn('write', Config.COMMAND, this.#device.writeConfig(Config.COMMAND, command, 2));
  }

  #fetch(offset: number, size: number): void {
    for (let at = offset; at < offset + size; at++) {
      const host = this.#host[at] ?? NOT_FORWARDED;
      if (host === NOT_FORWARDED) continue;
      const value = this.#device.readConfig(host, 1);
      this.#warn('read', host, value);
      this.#fn.config.set(at, value < 0 ? 0xff : value, 1);
    }
  }

  /** A reset of the guest's function writes the whole space: the host's function has its own reset for that. */
  #send(offset: number, size: number): void {
    if (size > 4) return;
    const first = this.#host[offset] ?? NOT_FORWARDED;
    const last = this.#host[offset + size - 1] ?? NOT_FORWARDED;
    if (first !== NOT_FORWARDED && last === first + size - 1) {
      const { config } = this.#fn;
      const value = size === 4 ? config.get32(offset) : size === 2 ? config.get16(offset) : config.get8(offset);
      this.#warn('write', first, this.#device.writeConfig(first, value, size));
      return;
    }
    // The access begins in the emulated header of a capability, or reaches beyond its end.
    for (let at = offset; at < offset + size; at++) {
      const host = this.#host[at] ?? NOT_FORWARDED;
      if (host !== NOT_FORWARDED)
        this.#warn('write', host, this.#device.writeConfig(host, this.#fn.config.get8(at), 1));
    }
  }

  #warn(what: string, offset: number, result: number): void {
    if (result < 0) this.#log.warn('%s of configuration space at %d failed: %d', what, offset, result);
  }
}
