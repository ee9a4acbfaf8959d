/** Which places on which PCI buses are taken. Buses are known by name, so that places behind a bridge can be planned too. */
import { ConfigError } from '@remora/core';
import { formatDevfn } from '@remora/pci';

const DEVFNS = 256;
const FUNCTIONS = 8;

export class Slots {
  readonly #buses = new Map<string, Map<number, string>>();
  readonly #reserved = new Set<string>();

  /** `who` sits at `devfn` of `bus`. @throws ConfigError at `path` if somebody else does. */
  take(path: string, bus: string, devfn: number, who: string): void {
    const taken = this.#bus(bus);
    const there = taken.get(devfn);
    if (there !== undefined) throw new ConfigError(path, `${formatDevfn(devfn)} on ${bus} is taken by ${there}`);
    taken.set(devfn, who);
  }

  /** Nobody is given device `devfn` of `bus` who does not ask for it. */
  reserve(bus: string, devfn: number): void {
    this.#reserved.add(`${bus}/${devfn & ~(FUNCTIONS - 1)}`);
  }

  /** Gives `who` the first device number of `bus` of which no function is taken or reserved. @throws ConfigError at `path` if there is none. */
  takeFree(path: string, bus: string, who: string): number {
    const taken = this.#bus(bus);
    for (let devfn = 0; devfn < DEVFNS; devfn += FUNCTIONS) {
      const used = Array.from({ length: FUNCTIONS }, (_, fn) => devfn + fn).some(each => taken.has(each));
      if (used || this.#reserved.has(`${bus}/${devfn}`)) continue;
      taken.set(devfn, who);
      return devfn;
    }
    throw new ConfigError(path, `no place is free on ${bus}`);
  }

  free(bus: string, devfn: number): void {
    this.#bus(bus).delete(devfn);
  }

  #bus(name: string): Map<number, string> {
    let taken = this.#buses.get(name);
    if (taken === undefined) this.#buses.set(name, (taken = new Map<number, string>()));
    return taken;
  }
}
