/** Configuration space by address, through the bus numbers that the guest's software assigned. */
import { configRead, configWrite, functionAt, parseBdf, type PciBus, type PciFunction } from '@remora/pci';

export class ConfigurationSpaces {
  readonly #root: PciBus;

  constructor(root: PciBus) {
    this.#root = root;
  }

  /** Reads 1, 2 or 4 bytes at `bdf` (`00:03.0`); an absent function answers all ones. @throws ConfigError if `bdf` is no address. */
  read(bdf: string, offset: number, size: number): number {
    const { bus, devfn } = this.#place(bdf);
    return configRead(this.#root, bus, devfn, offset, size);
  }

  /** Writes 1, 2 or 4 bytes at `bdf`. @throws ConfigError if `bdf` is no address. */
  write(bdf: string, offset: number, value: number, size: number): void {
    const { bus, devfn } = this.#place(bdf);
    configWrite(this.#root, bus, devfn, offset, value, size);
  }

  /** The function that answers at `bdf` at the moment. @throws ConfigError if `bdf` is no address. */
  functionAt(bdf: string): PciFunction | undefined {
    const { bus, devfn } = this.#place(bdf);
    return functionAt(this.#root, bus, devfn);
  }

  #place(bdf: string): { readonly bus: number; readonly devfn: number } {
    const { bus = 0, devfn } = parseBdf('bdf', bdf);
    return { bus, devfn };
  }
}
