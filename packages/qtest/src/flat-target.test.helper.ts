/** A target of plain arrays, whose ends a test can look at. */
import type { QtestPins, QtestTarget } from './target.js';

const TWO_32 = 2 ** 32;

export class FlatClock {
  timers: number[] = [];
  now = 0;

  next(): number | undefined {
    return this.timers[0];
  }

  set(ns: number): void {
    this.now = ns;
    this.timers = this.timers.filter(timer => timer > ns);
  }
}

export class FlatTarget implements QtestTarget {
  endianness: 'little' | 'big' = 'little';
  /** Memory from `base` on; elsewhere reads give zero. */
  readonly bytes = new Uint8Array(0x1000);
  readonly base: number;
  readonly written: string[] = [];
  readonly levels = new Uint8Array(4);
  readonly watchers = new Set<(pin: number, level: boolean) => void>();

  constructor(base = 0) {
    this.base = base;
  }

  readonly memory = {
    read: (hi: number, lo: number, out: Uint8Array): void => {
      const at = this.#at(hi, lo);
      for (let i = 0; i < out.length; i++) out[i] = this.bytes[at + i] ?? 0;
    },
    write: (hi: number, lo: number, from: Uint8Array): void => {
      const at = this.#at(hi, lo);
      for (let i = 0; i < from.length; i++) if (at + i >= 0 && at + i < 0x1000) this.bytes[at + i] = from[i]!;
    },
    fill: (hi: number, lo: number, length: number, value: number): void => {
      const at = this.#at(hi, lo);
      this.bytes.fill(value, at, at + length);
    },
  };

  readonly ports = {
    read: (port: number, size: number): number => (port * 0x1_0001) % 2 ** (8 * size),
    write: (port: number, size: number, value: number): void => {
      this.written.push(`${port.toString(16)}/${size}=${value.toString(16)}`);
    },
  };

  readonly clock = new FlatClock();

  findDevice(path: string): string | undefined {
    return ['ioapic', 'deaf'].find(name => name === path);
  }

  inputs(path: string, name: string | undefined): QtestPins | undefined {
    if (path !== 'ioapic' || name !== undefined) return undefined;
    return {
      count: 4,
      set: (pin, level) => {
        if (this.levels[pin] === Number(level)) return;
        this.levels[pin] = Number(level);
        for (const changed of this.watchers) changed(pin, level);
      },
      watch: changed => {
        this.watchers.add(changed);
        return { [Symbol.dispose]: () => void this.watchers.delete(changed) };
      },
    };
  }

  outputs(path: string, name: string | undefined): QtestPins | undefined {
    return name === 'out' ? this.inputs(path, undefined) : undefined;
  }

  loadModule(prefix: string, name: string): boolean {
    return prefix + name === 'hw-known';
  }

  #at(hi: number, lo: number): number {
    return (hi >>> 0) * TWO_32 + (lo >>> 0) - this.base;
  }
}
