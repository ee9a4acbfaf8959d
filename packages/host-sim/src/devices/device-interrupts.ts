/**
 * MSI and MSI-X of a lent function: the kernel programs the function with host vectors, and a message becomes a signal of the eventfd
 * that the user connected.
 */
import { AddressSpace, Errno, Region } from '@remora/core';
import { Capability, MsiLayout, MsixEntry, MsixLayout, type PciFunction } from '@remora/pci';
import { VfioPciIrq } from '@remora/uapi';
import type { EventFd } from '../files/eventfd.js';
import type { HostInterrupts, VectorBlock } from '../kernel/interrupts.js';

const CONTROL = 2;
const MSI_ENABLE = 1;
const MSIX_ENABLE = 0x8000;

interface Enabled {
  readonly index: number;
  readonly vectors: VectorBlock;
  readonly signals: (EventFd | undefined)[];
}

export class DeviceInterrupts implements Disposable {
  readonly #fn: PciFunction;
  readonly #interrupts: HostInterrupts;
  #enabled: Enabled | undefined;

  constructor(fn: PciFunction, interrupts: HostInterrupts) {
    this.#fn = fn;
    this.#interrupts = interrupts;
  }

  /** How many vectors the function has of interrupt `index`. */
  count(index: number): number {
    const { words } = this.#fn.config;
    const msi = this.#fn.capabilities.find(Capability.MSI);
    if (index === VfioPciIrq.MSI && msi !== undefined) return 2 ** MsiLayout.fields.capable.get(words, msi / 4);
    const msix = this.#fn.capabilities.find(Capability.MSIX);
    if (index === VfioPciIrq.MSIX && msix !== undefined) return MsixLayout.fields.last.get(words, msix / 4) + 1;
    return 0;
  }

  /** Connects vectors from `start` on; the first call enables the interrupt with as many as it names. */
  connect(index: number, start: number, signals: readonly (EventFd | undefined)[]): number {
    if (this.#enabled !== undefined && this.#enabled.index !== index) return -Errno.EINVAL;
    if (this.#enabled === undefined) {
      const error = this.#enable(index, start + signals.length);
      if (error !== 0) return error;
    }
    const enabled = this.#enabled!;
    if (start + signals.length > enabled.signals.length) return -Errno.EINVAL;
    signals.forEach((signal, at) => (enabled.signals[start + at] = signal));
    return 0;
  }

  /** Disables interrupt `index`; -EINVAL if that is not enabled. */
  disable(index: number): number {
    if (this.#enabled?.index !== index) return -Errno.EINVAL;
    this.#program(index, 0, undefined);
    this.#enabled.vectors[Symbol.dispose]();
    this.#enabled = undefined;
    return 0;
  }

  /** Signals vectors as if the function had sent them. -EINVAL for one that is not enabled. */
  trigger(index: number, start: number, count: number): number {
    const enabled = this.#enabled;
    if (enabled === undefined || enabled.index !== index || start + count > enabled.signals.length)
      return -Errno.EINVAL;
    for (let vector = start; vector < start + count; vector++) enabled.signals[vector]?.signal();
    return 0;
  }

  /** After a reset: programs what is enabled again. */
  restore(): void {
    const enabled = this.#enabled;
    if (enabled !== undefined) this.#program(enabled.index, enabled.signals.length, enabled.vectors);
  }

  [Symbol.dispose](): void {
    if (this.#enabled !== undefined) this.disable(this.#enabled.index);
  }

  state(): unknown {
    const enabled = this.#enabled;
    if (enabled === undefined) return null;
    return { index: enabled.index, connected: enabled.signals.map(signal => signal !== undefined) };
  }

  #enable(index: number, count: number): number {
    const signals = new Array<EventFd | undefined>(count).fill(undefined);
    const vectors = this.#interrupts.allocate(count, vector => signals[vector]?.signal());
    if (vectors === undefined) return -Errno.ENOSPC;
    this.#enabled = { index, vectors, signals };
    this.#program(index, count, vectors);
    return 0;
  }

  #program(index: number, count: number, vectors: VectorBlock | undefined): void {
    if (index === VfioPciIrq.MSI) this.#programMsi(count, vectors);
    else this.#programMsix(count, vectors);
  }

  #programMsi(count: number, vectors: VectorBlock | undefined): void {
    const at = this.#fn.capabilities.find(Capability.MSI)!;
    const { config } = this.#fn;
    config.write(at + CONTROL, 0, 2);
    if (vectors === undefined) return;
    const { fields } = MsiLayout;
    config.write(at + fields.addressLo.word * 4, vectors.address, 4);
    config.write(at + fields.addressHi.word * 4, 0, 4);
    config.write(at + fields.data.word * 4, vectors.data, 2);
    const granted = Math.ceil(Math.log2(count));
    config.write(at + CONTROL, MSI_ENABLE | (granted << (fields.granted.shift - 16)), 2);
  }

  #programMsix(count: number, vectors: VectorBlock | undefined): void {
    const at = this.#fn.capabilities.find(Capability.MSIX)!;
    const { config } = this.#fn;
    config.write(at + CONTROL, 0, 2);
    if (vectors === undefined) return;
    const table = this.#fn.bars.region(MsixLayout.fields.tableBar.get(config.words, at / 4))!;
    const whole = Region.alias('msix-table', table, 0, table.size);
    const space = new AddressSpace('msix-table', whole);
    const base = MsixLayout.fields.tableOffset.get(config.words, at / 4) * 8;
    for (let vector = 0; vector < count; vector++) {
      const entry = MsixEntry.encode({ addressLo: vectors.address, data: vectors.data + vector });
      space.store(0, base + vector * MsixEntry.bytes, entry, 0, MsixEntry.words);
    }
    space[Symbol.dispose]();
    config.write(at + CONTROL, MSIX_ENABLE, 2);
  }
}
