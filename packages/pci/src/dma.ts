/**
 * A function's way to memory. DMA and MSI identity travel together: both use the requester id that the live bus numbers give,
 * and both pass only while bus mastering is on in the function and in every bridge above.
 */
import { type AddressSpace, MemTx, NO_PASID, TxAttrs } from '@remora/core';
import { RemappedInterrupt } from '@remora/iommu';
import type { PciBus, PciPlatform } from './bus.js';
import type { PciFunction } from './function.js';
import { sendInterrupt } from './interrupt-path.js';
import type { PciIommuOps } from './iommu.js';
import { Command, Config, ExpressType } from './registers.js';

/** Writes without PASID to [0xFEE00000, 0xFEF00000) are interrupt requests and never translated (VT-d 3.14). */
const INTERRUPT_START = 0xfee0_0000;
const INTERRUPT_END = 0xfef0_0000;

export class DmaTarget {
  readonly #fn: PciFunction;
  readonly #attrs = new TxAttrs();
  readonly #message = new Uint8Array(4);
  readonly #remapped = new RemappedInterrupt();
  // What the last resolve() found.
  #bus: PciBus | undefined;
  #devfn = 0;
  #ops: PciIommuOps | undefined;
  #platform: PciPlatform | undefined;
  /** Whether a conventional bus is on the way: it carries no PASID. */
  #conventional = false;
  #open = false;
  // The address space of #cachedBus, #cachedDevfn under #cachedOps.
  #space: AddressSpace | undefined;
  #cachedOps: PciIommuOps | undefined;
  #cachedBus: PciBus | undefined;
  #cachedDevfn = -1;

  constructor(fn: PciFunction) {
    this.#fn = fn;
  }

  /**
   * Fills `out` from `(hi, lo)`. `flags` are Access.EXECUTE and Access.PRIVILEGED, for requests with a PASID. ACCESS_ERROR if the
   * function may not master the bus, or nothing above it takes requests with PASID.
   */
  read(hi: number, lo: number, out: Uint8Array, pasid: number = NO_PASID, flags = 0): MemTx {
    return this.#report(false, hi, lo, out, pasid, this.#transfer(false, hi, lo, out, pasid, flags));
  }

  /**
   * Writes `from` to `(hi, lo)`. Without PASID, an aligned DWORD in 0xFEExxxxx is an interrupt request and goes to the root
   * complex's message sink, remapped if the IOMMU does that; one that the IOMMU blocks, and any other write that touches that range,
   * is refused.
   */
  write(hi: number, lo: number, from: Uint8Array, pasid: number = NO_PASID, flags = 0): MemTx {
    return this.#report(true, hi, lo, from, pasid, this.#write(hi, lo, from, pasid, flags));
  }

  /** Writes the DWORD of a message signalled interrupt. */
  message(hi: number, lo: number, data: number): MemTx {
    for (let i = 0; i < 4; i++) this.#message[i] = data >>> (8 * i);
    return this.write(hi, lo, this.#message);
  }

  /** Where requests without further ado go: the IOMMU's address space for this function, or system memory. @throws Error if unplugged. */
  get addressSpace(): AddressSpace {
    this.#resolve();
    const space = this.#spaceNow();
    if (space === undefined) throw new Error(`${this.#fn.name} is not plugged`);
    return space;
  }

  /** The requester id that the IOMMU sees. @throws Error if unplugged. */
  get requesterId(): number {
    this.#resolve();
    if (this.#bus === undefined) throw new Error(`${this.#fn.name} is not plugged`);
    return (this.#bus.number << 8) | this.#devfn;
  }

  /** Whether bus mastering is on here and in every bridge up to the root. */
  get open(): boolean {
    this.#resolve();
    return this.#open;
  }

  #write(hi: number, lo: number, from: Uint8Array, pasid: number, flags: number): MemTx {
    if (pasid === NO_PASID && hi === 0) {
      const start = lo >>> 0;
      const end = start + from.length;
      if (start < INTERRUPT_END && end > INTERRUPT_START) {
        if (start >= INTERRUPT_START) return this.#interrupt(start, from);
        const below = INTERRUPT_START - start;
        const first = this.#transfer(true, hi, lo, from.subarray(0, below), pasid, flags);
        return first === MemTx.OK ? this.#interrupt(INTERRUPT_START, from.subarray(below)) : first;
      }
    }
    return this.#transfer(true, hi, lo, from, pasid, flags);
  }

  #interrupt(lo: number, from: Uint8Array): MemTx {
    this.#resolve();
    if (!this.#open || from.length !== 4 || lo % 4 !== 0) return MemTx.ACCESS_ERROR;
    const data = from[0]! | (from[1]! << 8) | (from[2]! << 16) | (from[3]! << 24);
    const requesterId = (this.#bus!.number << 8) | this.#devfn;
    const sent = sendInterrupt(this.#ops, this.#platform!.msi, requesterId, 0, lo, data, this.#remapped);
    return sent ? MemTx.OK : MemTx.ACCESS_ERROR;
  }

  #transfer(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number, flags: number): MemTx {
    this.#resolve();
    if (!this.#open) return MemTx.ACCESS_ERROR;
    if (pasid !== NO_PASID && (this.#ops === undefined || this.#conventional)) return MemTx.ACCESS_ERROR;
    const space = this.#spaceNow()!;
    const attrs = this.#attrs;
    // An access may end in a device that makes this one master the bus again: the outer request keeps its attributes.
    const outerId = attrs.requesterId;
    const outerPasid = attrs.pasid;
    const outerFlags = attrs.flags;
    attrs.requesterId = (this.#bus!.number << 8) | this.#devfn;
    attrs.pasid = pasid;
    attrs.flags = flags;
    const result = write ? space.writeAs(hi, lo, bytes, attrs) : space.readAs(hi, lo, bytes, attrs);
    attrs.requesterId = outerId;
    attrs.pasid = outerPasid;
    attrs.flags = outerFlags;
    return result;
  }

  /**
   * Walks up to the root: is the gate open, whose IOMMU is it, and in whose name does the request arrive there? A PCIe-to-PCI
   * bridge takes what comes from below as (secondary bus, 00.0); a conventional bridge takes it in its own name.
   */
  #resolve(): void {
    let at = this.#fn;
    let bus = at.bus;
    this.#bus = bus;
    this.#devfn = at.devfn;
    this.#ops = undefined;
    this.#platform = undefined;
    this.#conventional = false;
    this.#open = true;
    while (bus !== undefined) {
      if ((at.config.bytes[Config.COMMAND]! & Command.MASTER) === 0) this.#open = false;
      this.#ops ??= bus.iommu;
      const bridge: PciFunction | undefined = bus.parent;
      if (bridge === undefined) {
        this.#platform = bus.platform;
        return;
      }
      if (!bus.express && this.#ops === undefined) {
        this.#conventional = true;
        const express = bridge.expressType === ExpressType.PCI_BRIDGE;
        this.#bus = express ? bus : bridge.bus;
        this.#devfn = express ? 0 : bridge.devfn;
      }
      at = bridge;
      bus = bridge.bus;
    }
    this.#bus = undefined;
    this.#open = false;
  }

  #spaceNow(): AddressSpace | undefined {
    if (this.#bus === undefined || this.#ops === undefined) return this.#platform?.addressSpace;
    const cached = this.#cachedOps === this.#ops && this.#cachedBus === this.#bus && this.#cachedDevfn === this.#devfn;
    if (!cached) {
      this.#space = this.#ops.addressSpaceFor(this.#bus, this.#devfn);
      this.#cachedOps = this.#ops;
      this.#cachedBus = this.#bus;
      this.#cachedDevfn = this.#devfn;
    }
    return this.#space;
  }

  #report(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number, result: MemTx): MemTx {
    const ledger = this.#fn.bus?.platform?.ledger;
    if (ledger !== undefined && ledger.on) {
      ledger.add(this.#fn.name, 'dma', {
        requesterId: this.#fn.requesterId,
        write,
        hi: hi >>> 0,
        lo: lo >>> 0,
        bytes: bytes.length,
        pasid,
        result,
      });
    }
    return result;
  }
}

/**
 * The requester id under which requests of `fn` reach its IOMMU: its own, unless a conventional bus is on the way.
 * @throws Error if unplugged.
 */
export function aliasRequesterId(fn: PciFunction): number {
  return fn.dma.requesterId;
}
