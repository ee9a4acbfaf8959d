/** The two ways from software to configuration space: the ECAM window and ports 0xCF8/0xCFC. They reach the same registers. */
import type { MmioOps, StateReader, StateWriter } from '@remora/core';
import { CONFIG_BYTES, configRead, configWrite, functionAt, type PciBus } from '@remora/pci';
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

/** What ICH9 has in the middle of CONFIG_ADDRESS: its reset control register, which this board has not. */
const RESET_CONTROL = 1;

/**
 * CONFIG_ADDRESS at offset 0 and CONFIG_DATA at offset 4. CONFIG_ADDRESS is written by 4-byte accesses only; smaller reads find its low
 * bytes, wherever they begin. The specification has them go on to the bus (PCI 3.0 3.2.2.3.2); this is what QEMU's boards do.
 */
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
      const ones = 2 ** (8 * size) - 1;
      if (offset < 4) return offset === RESET_CONTROL ? ones : (this.#address[0]! & ones) >>> 0;
      const { bus, devfn, enable } = ConfigAddress.fields;
      if (enable.get(this.#address, 0) === 0) return ones;
      const fn = functionAt(this.#root, bus.get(this.#address, 0), devfn.get(this.#address, 0));
      const register = this.#register(offset);
      return fn === undefined ? ones : fn.config.read(register, within(register, size));
    },
    write: (offset, value, size) => {
      if (offset < 4) {
        if (offset === 0 && size === 4) this.#address[0] = value;
        return;
      }
      const { bus, devfn, enable } = ConfigAddress.fields;
      if (enable.get(this.#address, 0) === 0) return;
      const fn = functionAt(this.#root, bus.get(this.#address, 0), devfn.get(this.#address, 0));
      const register = this.#register(offset);
      fn?.config.write(register, value, within(register, size));
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

/** How many of these bytes are below the extended configuration space, where the ports do not lead. */
function within(register: number, size: number): number {
  return Math.min(size, CONFIG_BYTES - register);
}
