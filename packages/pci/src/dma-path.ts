/**
 * The way from a function up to the root, as its requests take it now: is it open, whose IOMMU is on it, and in whose name do they
 * arrive there?
 */
import type { AddressSpace } from '@remora/core';
import type { PciBus, PciPlatform } from './bus.js';
import type { PciFunction } from './function.js';
import type { PciIommuOps } from './iommu.js';
import { Command, Config, ExpressType } from './registers.js';

export class DmaPath {
  /** The bus on which the requests appear to arise; undefined while a function on the way is not plugged. */
  bus: PciBus | undefined;
  devfn = 0;
  ops: PciIommuOps | undefined;
  platform: PciPlatform | undefined;
  /** Whether a conventional bus is on the way: it carries neither PASIDs nor ATS. */
  conventional = false;
  /** Whether bus mastering is on in the function and in every bridge up to the root. */
  open = false;
  readonly #fn: PciFunction;
  // The address space of #cachedBus, #cachedDevfn under #cachedOps.
  #space: AddressSpace | undefined;
  #cachedOps: PciIommuOps | undefined;
  #cachedBus: PciBus | undefined;
  #cachedDevfn = -1;

  constructor(fn: PciFunction) {
    this.#fn = fn;
  }

  /**
   * Walks up to the root. A PCIe-to-PCI bridge takes what comes from below as (secondary bus, 00.0); a conventional bridge takes it in
   * its own name.
   */
  resolve(): void {
    let at = this.#fn;
    let bus = at.bus;
    this.bus = bus;
    this.devfn = at.devfn;
    this.ops = undefined;
    this.platform = undefined;
    this.conventional = false;
    this.open = true;
    while (bus !== undefined) {
      if ((at.config.bytes[Config.COMMAND]! & Command.MASTER) === 0) this.open = false;
      this.ops ??= bus.iommu;
      const bridge: PciFunction | undefined = bus.parent;
      if (bridge === undefined) {
        this.platform = bus.platform;
        return;
      }
      if (!bus.express && this.ops === undefined) {
        this.conventional = true;
        const express = bridge.expressType === ExpressType.PCI_BRIDGE;
        this.bus = express ? bus : bridge.bus;
        this.devfn = express ? 0 : bridge.devfn;
      }
      at = bridge;
      bus = bridge.bus;
    }
    this.bus = undefined;
    this.open = false;
  }

  /** What the IOMMU sees: bus << 8 | devfn, of what resolve() found. */
  get requesterId(): number {
    return (this.bus!.number << 8) | this.devfn;
  }

  /** Where untranslated requests go, of what resolve() found: the IOMMU's space for this place, or system memory. */
  get space(): AddressSpace | undefined {
    if (this.bus === undefined || this.ops === undefined) return this.platform?.addressSpace;
    const cached = this.#cachedOps === this.ops && this.#cachedBus === this.bus && this.#cachedDevfn === this.devfn;
    if (!cached) {
      this.#space = this.ops.addressSpaceFor(this.bus, this.devfn);
      this.#cachedOps = this.ops;
      this.#cachedBus = this.bus;
      this.#cachedDevfn = this.devfn;
    }
    return this.#space;
  }
}
