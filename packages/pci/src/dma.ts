/**
 * A function's way to memory. DMA and MSI identity travel together: both use the requester id that the live bus numbers give,
 * and both pass only while bus mastering is on in the function and in every bridge above.
 */
import { Access, type AddressSpace, MemTx, NO_PASID, PAGE_BYTES, TxAttrs } from '@remora/core';
import { type AtsCompletion, AtsStatus, RemappedInterrupt } from '@remora/iommu';
import { DmaPath } from './dma-path.js';
import type { PciFunction } from './function.js';
import { sendInterrupt } from './interrupt-path.js';

/** Writes without PASID to [0xFEE00000, 0xFEF00000) are interrupt requests and never translated (VT-d 3.14). */
const INTERRUPT_START = 0xfee0_0000;
const INTERRUPT_END = 0xfef0_0000;

export class DmaTarget {
  readonly #fn: PciFunction;
  readonly #attrs = new TxAttrs();
  readonly #message = new Uint8Array(4);
  readonly #remapped = new RemappedInterrupt();
  readonly #path: DmaPath;

  constructor(fn: PciFunction) {
    this.#fn = fn;
    this.#path = new DmaPath(fn);
  }

  /**
   * Fills `out` from `(hi, lo)`. `flags` are Access.EXECUTE and Access.PRIVILEGED, for requests with a PASID. ACCESS_ERROR if the
   * function may not master the bus, or nothing above it takes requests with PASID.
   */
  read(hi: number, lo: number, out: Uint8Array, pasid: number = NO_PASID, flags = 0): MemTx {
    return this.#report(false, hi, lo, out, pasid, this.#untranslated(false, hi, lo, out, pasid, flags));
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

  // ATS (PCIe 10). All of it needs ATS enabled in the function and a way to an IOMMU that is PCI Express throughout.

  /**
   * A translation request for the page of `(hi, lo)`. `access`: READ, WRITE and EXECUTE as needed, PRIVILEGED as the request is made;
   * without WRITE it says that write permission is not needed (NW). OK fills `out`.
   */
  translationRequest(hi: number, lo: number, access: number, out: AtsCompletion, pasid: number = NO_PASID): AtsStatus {
    const page = lo & ~(PAGE_BYTES - 1);
    let status: AtsStatus = AtsStatus.UNSUPPORTED;
    if (this.#atsOpen()) {
      const { ops, requesterId } = this.#path;
      status = ops!.translationRequest?.(requesterId, pasid, hi, page, access, out) ?? AtsStatus.UNSUPPORTED;
    }
    if (this.#ledgerOn) {
      const answer = { toHi: out.hi >>> 0, toLo: out.lo >>> 0, shift: out.shift, granted: out.access };
      const granted = status === AtsStatus.OK ? answer : {};
      this.#note('translation-request', { hi: hi >>> 0, lo: page >>> 0, access, pasid, status, ...granted });
    }
    return status;
  }

  /**
   * Fills `out` from the *translated* address `(hi, lo)`, within one page of 4 KiB. `pasid` is that of the translation. ACCESS_ERROR if
   * the IOMMU does not let this function use translated addresses.
   */
  readTranslated(hi: number, lo: number, out: Uint8Array, pasid: number = NO_PASID): MemTx {
    return this.#translated(false, hi, lo, out, pasid);
  }

  /** As readTranslated, writes `from`. */
  writeTranslated(hi: number, lo: number, from: Uint8Array, pasid: number = NO_PASID): MemTx {
    return this.#translated(true, hi, lo, from, pasid);
  }

  /**
   * Asks for the page of `(hi, lo)` under `group`, 0 .. 511; `access` as in PageRequest. True if a response will come or none is due; it may
   * come before this returns. False if the request was refused, or page requests are not enabled.
   */
  pageRequest(hi: number, lo: number, access: number, group: number, last: boolean, pasid: number = NO_PASID): boolean {
    if (!this.#fn.priEnabled || !this.#atsOpen() || this.#path.ops!.pageRequest === undefined) return false;
    const { ops, requesterId } = this.#path;
    const page = lo & ~(PAGE_BYTES - 1);
    if (!this.#ledgerOn) return ops!.pageRequest!({ requesterId, pasid, hi, lo: page, access, group, last });
    const { ledger } = this.#fn.bus!.platform!;
    const request = { requesterId, pasid, hi: hi >>> 0, lo: page >>> 0, access, group, last };
    const event = ledger!.open(this.#fn.name, 'page-request', request);
    const taken = ops!.pageRequest!(request);
    ledger!.close(event, { taken });
    return taken;
  }

  /** Where requests without further ado go: the IOMMU's address space for this function, or system memory. @throws Error if unplugged. */
  get addressSpace(): AddressSpace {
    this.#path.resolve();
    const { space } = this.#path;
    if (space === undefined) throw new Error(`${this.#fn.name} is not plugged`);
    return space;
  }

  /** The requester id that the IOMMU sees. @throws Error if unplugged. */
  get requesterId(): number {
    this.#path.resolve();
    if (this.#path.bus === undefined) throw new Error(`${this.#fn.name} is not plugged`);
    return this.#path.requesterId;
  }

  /** Whether bus mastering is on here and in every bridge up to the root. */
  get open(): boolean {
    this.#path.resolve();
    return this.#path.open;
  }

  #write(hi: number, lo: number, from: Uint8Array, pasid: number, flags: number): MemTx {
    if (pasid === NO_PASID && hi === 0) {
      const start = lo >>> 0;
      const end = start + from.length;
      if (start < INTERRUPT_END && end > INTERRUPT_START) {
        if (start >= INTERRUPT_START) return this.#interrupt(start, from);
        const below = INTERRUPT_START - start;
        const first = this.#untranslated(true, hi, lo, from.subarray(0, below), pasid, flags);
        return first === MemTx.OK ? this.#interrupt(INTERRUPT_START, from.subarray(below)) : first;
      }
    }
    return this.#untranslated(true, hi, lo, from, pasid, flags);
  }

  #interrupt(lo: number, from: Uint8Array): MemTx {
    const path = this.#path;
    path.resolve();
    if (!path.open || from.length !== 4 || lo % 4 !== 0) return MemTx.ACCESS_ERROR;
    const data = from[0]! | (from[1]! << 8) | (from[2]! << 16) | (from[3]! << 24);
    const sent = sendInterrupt(path.ops, path.platform!.msi, path.requesterId, 0, lo, data, this.#remapped);
    return sent ? MemTx.OK : MemTx.ACCESS_ERROR;
  }

  #untranslated(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number, flags: number): MemTx {
    const path = this.#path;
    path.resolve();
    if (!path.open) return MemTx.ACCESS_ERROR;
    if (pasid !== NO_PASID && (path.ops === undefined || path.conventional)) return MemTx.ACCESS_ERROR;
    return this.#transfer(path.space!, write, hi, lo, bytes, pasid, flags);
  }

  #translated(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number): MemTx {
    if ((lo & (PAGE_BYTES - 1)) + bytes.length > PAGE_BYTES)
      throw new RangeError('a translated request within one page');
    let result: MemTx = MemTx.ACCESS_ERROR;
    if (this.#atsOpen()) {
      const path = this.#path;
      const access = write ? Access.WRITE : Access.READ;
      const status = path.ops!.translatedRequest?.(path.requesterId, pasid, hi, lo, access) ?? AtsStatus.UNSUPPORTED;
      if (status === AtsStatus.OK) {
        result = this.#transfer(path.platform!.addressSpace, write, hi, lo, bytes, pasid, 0);
      }
    }
    return this.#report(write, hi, lo, bytes, pasid, result, true);
  }

  /** Whether requests that speak ATS get through. Leaves the path resolved. */
  #atsOpen(): boolean {
    if (!this.#fn.atsEnabled) return false;
    this.#path.resolve();
    return this.#path.open && this.#path.ops !== undefined && !this.#path.conventional;
  }

  #transfer(
    space: AddressSpace,
    write: boolean,
    hi: number,
    lo: number,
    bytes: Uint8Array,
    pasid: number,
    flags: number,
  ): MemTx {
    const attrs = this.#attrs;
    // An access may end in a device that makes this one master the bus again: the outer request keeps its attributes.
    const outerId = attrs.requesterId;
    const outerPasid = attrs.pasid;
    const outerFlags = attrs.flags;
    attrs.requesterId = this.#path.requesterId;
    attrs.pasid = pasid;
    attrs.flags = flags;
    const result = write ? space.writeAs(hi, lo, bytes, attrs) : space.readAs(hi, lo, bytes, attrs);
    attrs.requesterId = outerId;
    attrs.pasid = outerPasid;
    attrs.flags = outerFlags;
    return result;
  }

  get #ledgerOn(): boolean {
    return this.#fn.bus?.platform?.ledger?.on === true;
  }

  #note(kind: string, data: Record<string, unknown>): void {
    const { name, requesterId, bus } = this.#fn;
    bus!.platform!.ledger!.add(name, kind, { requesterId, ...data });
  }

  #report(
    write: boolean,
    hi: number,
    lo: number,
    bytes: Uint8Array,
    pasid: number,
    result: MemTx,
    translated = false,
  ): MemTx {
    if (this.#ledgerOn) {
      const how = translated ? { translated } : {};
      this.#note('dma', { write, hi: hi >>> 0, lo: lo >>> 0, bytes: bytes.length, pasid, result, ...how });
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
