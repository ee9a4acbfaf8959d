/** Registers of the guest's configuration space whose truth is in the host function's. */
import type { Log } from '@remora/core';
import type { VfioDevice } from '@remora/host';
import { Command, Config, type PciFunction } from '@remora/pci';
import type { ForwardedCapability } from './header.js';
import type { VfioPciTrace } from './trace-events.js';

const HEADER_BYTES = 2;
const NOT_FORWARDED = -1;

export class ForwardedConfig {
  readonly #fn: PciFunction;
  readonly #device: VfioDevice;
  readonly #log: Log;
  readonly #trace: VfioPciTrace;
  /** By offset in the guest's space: the offset in the host's, or NOT_FORWARDED. */
  readonly #host: Int16Array;
  #command = 0;

  constructor(fn: PciFunction, device: VfioDevice, log: Log, trace: VfioPciTrace) {
    this.#fn = fn;
    this.#device = device;
    this.#log = log;
    this.#trace = trace;
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
    const { vfio_pci_read_config: did } = this.#trace;
    if (did.on) did.emit(this.#device.bdf, offset, size, this.#value(offset, size));
  }

  /** A reset of the guest's function writes the whole space: the host's function has its own reset for that. */
  #send(offset: number, size: number): void {
    if (size > 4) return;
    const { vfio_pci_write_config: did } = this.#trace;
    if (did.on) did.emit(this.#device.bdf, offset, this.#value(offset, size), size);
    const first = this.#host[offset] ?? NOT_FORWARDED;
    const last = this.#host[offset + size - 1] ?? NOT_FORWARDED;
    if (first !== NOT_FORWARDED && last === first + size - 1) {
      this.#warn('write', first, this.#device.writeConfig(first, this.#value(offset, size), size));
      return;
    }
    // The access begins in the emulated header of a capability, or reaches beyond its end.
    for (let at = offset; at < offset + size; at++) {
      const host = this.#host[at] ?? NOT_FORWARDED;
      if (host !== NOT_FORWARDED)
        this.#warn('write', host, this.#device.writeConfig(host, this.#fn.config.get8(at), 1));
    }
  }

  /** What the guest's function shows there. */
  #value(offset: number, size: number): number {
    const { config } = this.#fn;
    return size === 4 ? config.get32(offset) : size === 2 ? config.get16(offset) : config.get8(offset);
  }

  #warn(what: string, offset: number, result: number): void {
    if (result < 0) this.#log.warn('%s of configuration space at %d failed: %d', what, offset, result);
  }
}
