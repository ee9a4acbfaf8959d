/**
 * Configuration space as VFIO shows it to a user: most of it is the function's own; what decides where the function answers, whom it
 * interrupts and whether it uses PASIDs belongs to the kernel, and the user sees a copy that only he reads.
 */
import { Capability, Command, Config, ExtendedCapability, MsiLayout, type PciFunction } from '@remora/pci';

const BARS = 6;
const ROM_BAR = 0x30;
const CARDBUS = 0x28;
/** Of the MSI-X capability: everything after its header. */
const MSIX_BODY = { start: 2, end: 12 };
const PASID_CONTROL = 6;
const PASID_BYTES = 8;
const ATS_CONTROL = 6;
/** Control and status. */
const PRI_CONTROL = 4;
const PRI_ALLOCATION = 12;
/** Device Control in the PCI Express capability, and Initiate Function Level Reset in it (PCIe 7.5.3.4). */
const DEVICE_CONTROL = 8;
const INITIATE_FLR = 0x8000;

export class VirtualConfig {
  readonly #fn: PciFunction;
  readonly #reset: () => void;
  /** Per byte: bits that the copy answers. */
  readonly #virtual: Uint8Array;
  /** Per byte: bits of the copy that the user may change. */
  readonly #writable: Uint8Array;
  /** Per byte: bits that writes do not reach the function with. */
  readonly #kept: Uint8Array;
  readonly #copy: Uint8Array;
  /** Offset of Device Control; undefined without the PCI Express capability. */
  readonly #deviceControl: number | undefined;

  /** `reset` carries out a function-level reset that the user asked for. `hidesPasids`: the user does not see that capability. */
  constructor(fn: PciFunction, reset: () => void, hidesPasids = false) {
    const size = fn.config.size;
    this.#fn = fn;
    this.#reset = reset;
    this.#virtual = new Uint8Array(size);
    this.#writable = new Uint8Array(size);
    this.#kept = new Uint8Array(size);
    this.#copy = fn.config.bytes.slice();
    const express = fn.capabilities.find(Capability.EXPRESS);
    this.#deviceControl = express === undefined ? undefined : express + DEVICE_CONTROL;
    this.#keepHeader();
    this.#keepInterrupts();
    const pasid = fn.capabilities.findExtended(ExtendedCapability.PASID);
    if (pasid !== undefined && hidesPasids) this.#hide(pasid, PASID_BYTES);
    else if (pasid !== undefined) this.#own(pasid + PASID_CONTROL, 2, 0x7);
    this.#keepAts();
    if (this.#deviceControl !== undefined) this.#drop(this.#deviceControl, 2, INITIATE_FLR);
  }

  get size(): number {
    return this.#copy.length;
  }

  /** Whether the user enabled memory decoding: BARs answer only then. */
  get memoryEnabled(): boolean {
    return (this.#copy[Config.COMMAND]! & Command.MEMORY) !== 0;
  }

  /** Fills `out` from `offset`; all of it is inside. */
  read(offset: number, out: Uint8Array): void {
    for (let i = 0; i < out.length; i++) {
      const at = offset + i;
      const virtual = this.#virtual[at]!;
      out[i] = (this.#copy[at]! & virtual) | (this.#fn.config.bytes[at]! & ~virtual);
    }
  }

  /** Writes `from` to `offset`; all of it is inside. The function sees naturally aligned accesses of up to 4 bytes. */
  write(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length;) {
      const at = offset + done;
      let size = Math.min(4, from.length - done);
      while (size === 3 || at % size !== 0) size--;
      this.#writePiece(at, from.subarray(done, done + size));
      done += size;
    }
  }

  #writePiece(at: number, piece: Uint8Array): void {
    let value = 0;
    let passes = false;
    for (let i = piece.length - 1; i >= 0; i--) {
      const byte = at + i;
      const writable = this.#writable[byte]!;
      this.#copy[byte] = (this.#copy[byte]! & ~writable) | (piece[i]! & writable);
      const kept = this.#kept[byte]!;
      value = value * 0x100 + ((piece[i]! & ~kept) | (this.#fn.config.bytes[byte]! & kept));
      passes ||= kept !== 0xff;
    }
    if (passes) this.#fn.config.write(at, value, piece.length);
    this.#resetIfAsked(at, piece);
  }

  #resetIfAsked(at: number, piece: Uint8Array): void {
    if (this.#deviceControl === undefined) return;
    const high = this.#deviceControl + 1 - at;
    if (high >= 0 && high < piece.length && (piece[high]! & (INITIATE_FLR >>> 8)) !== 0) this.#reset();
  }

  #keepHeader(): void {
    this.#own(Config.COMMAND, 2, Command.MEMORY | Command.IO, Command.MEMORY | Command.IO);
    this.#own(Config.INTERRUPT_LINE, 1, 0xff);
    this.#own(CARDBUS, 4, 0);
    this.#own(ROM_BAR, 4, 0);
    this.#copy.fill(0, ROM_BAR, ROM_BAR + 4);
    for (let index = 0; index < BARS; index++) {
      const offset = Config.BAR0 + 4 * index;
      const region = this.#fn.bars.region(index);
      const low = this.#fn.config.get8(offset);
      const wide = region !== undefined && (low & 0x7) === 0x4;
      const mask = region === undefined ? 0 : region.size - 1;
      this.#own(offset, 4, region === undefined ? 0 : ~(mask % 0x1_0000_0000));
      this.#setCopy(offset, region === undefined ? 0 : low & ((low & 1) !== 0 ? 0x3 : 0xf));
      if (!wide) continue;
      index++;
      this.#own(offset + 4, 4, ~Math.floor(mask / 0x1_0000_0000));
      this.#setCopy(offset + 4, 0);
    }
  }

  #keepInterrupts(): void {
    const msi = this.#fn.capabilities.find(Capability.MSI);
    if (msi !== undefined) {
      // Enable, granted vectors, address and data: who is interrupted. Masks stay the function's.
      const { mask } = MsiLayout.fields;
      this.#own(msi + 2, 2, 0x71);
      this.#own(msi + 4, mask.word * 4 - 4, 0xffff_ffff);
    }
    const msix = this.#fn.capabilities.find(Capability.MSIX);
    if (msix !== undefined) this.#drop(msix + MSIX_BODY.start, MSIX_BODY.end - MSIX_BODY.start, 0xffff_ffff);
  }

  /** The kernel alone says who uses device TLBs, and nobody requests pages: the user sees both as off. */
  #keepAts(): void {
    const { atsCapability, priCapability } = this.#fn;
    if (atsCapability !== undefined) {
      const control = atsCapability.offset + ATS_CONTROL;
      this.#own(control, 2, 0);
      this.#copy.fill(0, control, control + 2);
    }
    if (priCapability !== undefined) {
      this.#own(priCapability.offset + PRI_CONTROL, 4, 0);
      this.#own(priCapability.offset + PRI_ALLOCATION, 4, 0);
    }
  }

  /** Of an extended capability only the place of the next one is left. */
  #hide(at: number, bytes: number): void {
    this.#own(at, bytes, 0);
    this.#copy.fill(0, at, at + 2);
    this.#copy[at + 2]! &= 0xf0;
    this.#copy.fill(0, at + 4, at + bytes);
  }

  /** `bits` (by default all) of these bytes are answered by the copy, of which the user may change `writable`. */
  #own(offset: number, size: number, writable: number, bits = 0xffff_ffff): void {
    for (let i = 0; i < size; i++) {
      const shift = 8 * (i % 4);
      this.#virtual[offset + i] = bits >>> shift;
      this.#kept[offset + i] = bits >>> shift;
      this.#writable[offset + i] = writable >>> shift;
    }
  }

  /** Writes of `bits` do not reach the function. */
  #drop(offset: number, size: number, bits: number): void {
    for (let i = 0; i < size; i++) this.#kept[offset + i] = bits >>> (8 * (i % 4));
  }

  #setCopy(offset: number, value: number): void {
    for (let i = 0; i < 4; i++) this.#copy[offset + i] = value >>> (8 * i);
  }
}
