/** The two ways from software to configuration space: the ECAM window and ports 0xCF8/0xCFC. They reach the same registers. */
import type { MmioOps, StateReader, StateWriter } from '@remora/core';
import { configRead, configWrite, type PciBus } from '@remora/pci';
import { ConfigAddress } from './spec.js';

/** ECAM (PCIe 7.2.2): bus in bits 27:20 of the offset, devfn in 19:12, register in 11:0. */
export function ecamOps(root: PciBus): MmioOps {
  return {
    valid: { min: 1, max: 8 },
    impl: { min: 1, max: 4 },
    read: (offset, size) => configRead(root, offset >>> 20, (offset >>> 12) & 0xff, offset & 0xfff, size),
    write: (offset, value, size) =>
      configWrite(root, offset >>> 20, (offset >>> 12) & 0xff, offset & 0xfff, value, size),
  };
}

/** CONFIG_ADDRESS at offset 0, which takes 4-byte accesses only, and CONFIG_DATA at offset 4. */
export class ConfigPorts {
  readonly #root: PciBus;
  readonly #address = new Int32Array(1);

  constructor(root: PciBus) {
    this.#root = root;
  }

  readonly ops: MmioOps = {
    valid: { min: 1, max: 4 },
    impl: { min: 1, max: 4 },
    read: (offset, size) => {
      if (offset < 4) return offset === 0 && size === 4 ? this.#address[0]! >>> 0 : 2 ** (8 * size) - 1;
      const { bus, devfn, enable } = ConfigAddress.fields;
      if (enable.get(this.#address, 0) === 0) return 2 ** (8 * size) - 1;
      return configRead(
        this.#root,
        bus.get(this.#address, 0),
        devfn.get(this.#address, 0),
        this.#register(offset),
        size,
      );
    },
    write: (offset, value, size) => {
      if (offset < 4) {
        if (offset === 0 && size === 4) this.#address[0] = value;
        return;
      }
      const { bus, devfn, enable } = ConfigAddress.fields;
      if (enable.get(this.#address, 0) === 0) return;
      const at = bus.get(this.#address, 0);
      configWrite(this.#root, at, devfn.get(this.#address, 0), this.#register(offset), value, size);
    },
  };

  reset(): void {
    this.#address[0] = 0;
  }

  save(into: StateWriter): void {
    into.words('address', this.#address);
  }

  load(from: StateReader): void {
    from.words('address', this.#address);
  }

  /** Byte offsets may be in the address, in the port, or in both. */
  #register(offset: number): number {
    return ConfigAddress.fields.register.get(this.#address, 0) | (offset & 3);
  }
}
