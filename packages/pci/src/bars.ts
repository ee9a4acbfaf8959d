/**
 * Base address registers: sizing, decoding and mapping. A BAR's region is in its bus's memory or I/O container while COMMAND
 * decodes it and its address is one that can be decoded.
 */
import { memoryBatch, type Region } from '@remora/core';
import type { PciBus } from './bus.js';
import type { ConfigSpace } from './config-space.js';
import { Command, Config } from './registers.js';

export interface BarOptions {
  readonly type: 'mem32' | 'mem64' | 'io';
  readonly prefetchable?: boolean;
}

/** Bits 3:0 of a memory BAR (PCI 3.0 6.2.5.1) and 1:0 of an I/O BAR. */
const BarBits = { IO: 0x1, MEM64: 0x4, PREFETCH: 0x8 } as const;

/** No bus carries a memory address with more bits than this. */
export const PHYSICAL_LIMIT = 2 ** 52;
const PORT_LIMIT = 0x1_0000;
/** A mapped BAR hides what the board put at the same place with the default priority. */
const BAR_PRIORITY = 1;

class Bar {
  readonly region: Region;
  readonly type: BarOptions['type'];
  readonly #config: ConfigSpace;
  readonly #offset: number;
  /** The container that shows the region; undefined while nothing does. */
  #shownIn: Region | undefined;
  #address: number | undefined;

  constructor(config: ConfigSpace, index: number, region: Region, options: BarOptions) {
    this.region = region;
    this.type = options.type;
    this.#config = config;
    this.#offset = Config.BAR0 + 4 * index;
    const flags =
      options.type === 'io'
        ? BarBits.IO
        : (options.type === 'mem64' ? BarBits.MEM64 : 0) | (options.prefetchable === true ? BarBits.PREFETCH : 0);
    const mask = region.size - 1;
    config.define(this.#offset, 4, flags, ~(mask % 0x1_0000_0000));
    if (options.type === 'mem64') config.define(this.#offset + 4, 4, 0, ~Math.floor(mask / 0x1_0000_0000));
  }

  /** Where the region is mapped; undefined while it is not. */
  get address(): number | undefined {
    return this.#address;
  }

  update(bus: PciBus | undefined): void {
    const address = bus === undefined ? undefined : this.#decoded();
    const container = bus === undefined ? undefined : this.type === 'io' ? bus.ports : bus.memory;
    if (address === this.#address && container === this.#shownIn) return;
    if (this.#shownIn !== undefined) this.#shownIn.remove(this.region);
    this.#shownIn = address === undefined ? undefined : container;
    this.#address = address;
    if (address !== undefined) this.#shownIn?.add(address, this.region, BAR_PRIORITY);
  }

  /** The address in the register, if it is decoded: address 0 and one whose region would touch the limit are not. */
  #decoded(): number | undefined {
    const enable = this.type === 'io' ? Command.IO : Command.MEMORY;
    if ((this.#config.get16(Config.COMMAND) & enable) === 0) return undefined;
    const low = this.#config.get32(this.#offset);
    let address = this.type === 'io' ? low - (low % 4) : low - (low % 16);
    if (this.type === 'mem64') address += this.#config.get32(this.#offset + 4) * 0x1_0000_0000;
    const limit = this.type === 'io' ? PORT_LIMIT : this.type === 'mem32' ? 0x1_0000_0000 : PHYSICAL_LIMIT;
    return address === 0 || address + this.region.size >= limit ? undefined : address;
  }
}

export class Bars {
  readonly #config: ConfigSpace;
  readonly #bus: () => PciBus | undefined;
  readonly #bars: (Bar | undefined)[];
  /** Registers that are taken, the upper halves of 64-bit BARs included. */
  readonly #taken = new Set<number>();

  /** `count` is 6 for type 0 and 2 for type 1; `bus` tells where the function is plugged at the moment. */
  constructor(config: ConfigSpace, count: number, bus: () => PciBus | undefined) {
    this.#config = config;
    this.#bus = bus;
    this.#bars = new Array<Bar | undefined>(count);
    const update = (): void => this.update();
    config.onWrite({ start: Config.COMMAND, end: Config.COMMAND + 2 }, update);
    config.onWrite({ start: Config.BAR0, end: Config.BAR0 + 4 * count }, update);
  }

  /**
   * @throws RangeError if the register is taken, or the region's size is no power of two or below the smallest that the type
   * allows (16 bytes of memory, 4 ports).
   */
  add(index: number, region: Region, options: BarOptions): void {
    const smallest = options.type === 'io' ? 4 : 16;
    if (region.size < smallest || !Number.isInteger(Math.log2(region.size))) {
      throw new RangeError(`BAR ${index}: ${region.size} bytes is not a power of two from ${smallest} up`);
    }
    for (const register of options.type === 'mem64' ? [index, index + 1] : [index]) {
      if (register < 0 || register >= this.#bars.length || this.#taken.has(register)) {
        throw new RangeError(`BAR ${index}: register ${register} is taken or absent`);
      }
      this.#taken.add(register);
    }
    this.#bars[index] = new Bar(this.#config, index, region, options);
  }

  /** Where BAR `index` is mapped at the moment; undefined while it is not. */
  address(index: number): number | undefined {
    return this.#bars[index]?.address;
  }

  region(index: number): Region | undefined {
    return this.#bars[index]?.region;
  }

  /** Maps and unmaps by what the registers say now. */
  update(): void {
    const bus = this.#bus();
    memoryBatch(() => {
      for (const bar of this.#bars) bar?.update(bus);
    });
  }
}
