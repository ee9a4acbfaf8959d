/**
 * A device's accesses through its device TLB, one at a time. An access whose page is not there yet has it requested and waits: the device
 * repeats that access when it is told.
 */
import { Access, MemTx, NO_PASID, type StateReader, type StateWriter, type Timer } from '@remora/core';
import { AtsCompletion, PageResponse } from '@remora/iommu';
import { type DeviceTlb, Found } from './device-tlb.js';
import type { PciFunction } from './function.js';
import type { PageWaiter } from './page-requests.js';
import { PAGE_REQUEST_GROUPS } from './pri-capability.js';

/** The outcome of an access: a MemTx, or one of these. */
export const TlbAccess = {
  /** A page was requested: the device repeats the access once `resumed` was called. */
  WAITING: -1,
  /** The page was requested, and refused. */
  REFUSED: -2,
  /** The page is not there, and the channel does not request pages. */
  ABSENT: -3,
} as const;
export type TlbAccess = MemTx | (typeof TlbAccess)[keyof typeof TlbAccess];

/** No answer yet; others are PageResponse. */
const NO_ANSWER = -1;
/** It waits for room to make its request. */
const NO_GROUP = -1;
/** After so many page requests that were answered "success" and did not help, an access fails. */
const MAX_REQUESTS = 16;
/**
 * An answer from within the request is no driver's: the IOMMU's queue is full, and it says "try again" (PCIe 10.4.2). The next try comes
 * after so many nanoseconds, so that software has time to make room.
 */
const RETRY_NS = 1_000_000;

export class DeviceTlbChannel implements PageWaiter {
  // What PageWaiter wants to know of the access that waits.
  pasid = NO_PASID;
  hi = 0;
  lo = 0;
  access = 0;
  /** Whether an access whose page is not there has it requested, if software allows page requests; else it ends as ABSENT. */
  blocks = true;
  readonly #fn: PciFunction;
  readonly #tlb: DeviceTlb;
  readonly #resumed: () => void;
  readonly #found = new AtsCompletion();
  /** Page requests that the present access has made. */
  #requests = 0;
  #asking = false;
  #answer = NO_ANSWER;
  #answeredAtOnce = false;
  #pause: Timer | undefined;

  /** `resumed` is called when an access that waited may be repeated. */
  constructor(fn: PciFunction, tlb: DeviceTlb, resumed: () => void) {
    this.#fn = fn;
    this.#tlb = tlb;
    this.#resumed = resumed;
  }

  /** Fills `out` from `(hi, lo)`, within one page of 4 KiB. `flags` as in DmaTarget.read. */
  read(hi: number, lo: number, out: Uint8Array, pasid: number = NO_PASID, flags = 0): TlbAccess {
    return this.#run(false, hi, lo, out, pasid, flags);
  }

  /** Writes `from` to `(hi, lo)`, within one page of 4 KiB. */
  write(hi: number, lo: number, from: Uint8Array, pasid: number = NO_PASID, flags = 0): TlbAccess {
    return this.#run(true, hi, lo, from, pasid, flags);
  }

  /** The device gives the access up that waits: it is not told any more. */
  cancel(): void {
    if (this.#requests > 0) this.#tlb.abandon(this);
    this.#pause?.cancel();
    this.#pause = undefined;
    this.#done(MemTx.OK);
  }

  /** The response to its page request. */
  answered(code: number): void {
    this.#answer = code;
    if (!this.#asking) this.#resumed();
  }

  /** For an access that waits. */
  save(into: StateWriter): void {
    into
      .integer('pasid', this.pasid)
      .integer('hi', this.hi >>> 0)
      .integer('lo', this.lo >>> 0);
    into.integer('access', this.access).integer('requests', this.#requests);
    if (this.#pause !== undefined) into.timer('pause', this.#pause, this.#tlb.clock!.now);
    else into.integer('group', this.#tlb.waiting?.groupOf(this) ?? NO_GROUP);
  }

  /** After the device TLB. */
  load(from: StateReader): void {
    this.cancel();
    this.pasid = from.integer('pasid', { min: NO_PASID });
    this.hi = from.integer('hi');
    this.lo = from.integer('lo');
    this.access = from.integer('access');
    this.#requests = from.integer('requests', { min: 1, max: MAX_REQUESTS });
    if (from.has('pause')) this.#pause = from.timer('pause', this.#tlb.clock!, this.#unpause);
    else this.#tlb.waiting?.waits(this, from.integer('group', { min: NO_GROUP, max: PAGE_REQUEST_GROUPS - 1 }));
  }

  #run(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number, flags: number): TlbAccess {
    const modes = pasid === NO_PASID ? 0 : flags;
    const access = (write ? Access.WRITE : Access.READ) | modes;
    for (;;) {
      if (this.#answer > PageResponse.SUCCESS) return this.#done(TlbAccess.REFUSED);
      if (!this.#tlb.enabled) return this.#done(this.#untranslated(write, hi, lo, bytes, pasid, flags));
      switch (this.#tlb.translate(pasid, access, hi, lo, this.#found)) {
        case Found.TRANSLATED:
          return this.#done(this.#translated(write, hi, lo, bytes, pasid));
        case Found.UNTRANSLATED:
          return this.#done(this.#untranslated(write, hi, lo, bytes, pasid, flags));
        case Found.ERROR:
          return this.#done(MemTx.ACCESS_ERROR);
        default:
      }
      const failed = this.#request(pasid, access, hi, lo);
      if (failed === TlbAccess.WAITING) return failed;
      if (failed !== MemTx.OK) return this.#done(failed);
    }
  }

  /** OK if the access may be tried again at once. */
  #request(pasid: number, access: number, hi: number, lo: number): TlbAccess {
    if (!this.blocks) return TlbAccess.ABSENT;
    const { pageRequests } = this.#tlb;
    if (pageRequests === undefined) return this.#requests === 0 ? MemTx.ACCESS_ERROR : TlbAccess.REFUSED;
    if (this.#requests === MAX_REQUESTS) return TlbAccess.REFUSED;
    if (this.#answeredAtOnce) return this.#later();
    this.#requests++;
    this.pasid = pasid;
    this.access = access;
    this.hi = hi;
    this.lo = lo;
    this.#answer = NO_ANSWER;
    this.#asking = true;
    pageRequests.request(this);
    this.#asking = false;
    if (this.#answer === NO_ANSWER) return TlbAccess.WAITING;
    this.#answeredAtOnce = this.#tlb.clock !== undefined;
    return MemTx.OK;
  }

  #later(): TlbAccess {
    this.#answeredAtOnce = false;
    this.#pause = this.#tlb.clock!.after(RETRY_NS, this.#unpause);
    return TlbAccess.WAITING;
  }

  readonly #unpause = (): void => {
    this.#pause = undefined;
    this.#resumed();
  };

  #translated(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number): MemTx {
    const { shift } = this.#found;
    const offsetHi = shift > 32 ? hi & ~(-1 << (shift - 32)) : 0;
    const offsetLo = shift >= 32 ? lo : lo & ~(-1 << shift);
    const outHi = this.#found.hi | offsetHi;
    const outLo = this.#found.lo | offsetLo;
    const { dma } = this.#fn;
    this.#tlb.begin();
    const result = write
      ? dma.writeTranslated(outHi, outLo, bytes, pasid)
      : dma.readTranslated(outHi, outLo, bytes, pasid);
    this.#tlb.end();
    return result;
  }

  #untranslated(write: boolean, hi: number, lo: number, bytes: Uint8Array, pasid: number, flags: number): MemTx {
    const { dma } = this.#fn;
    return write ? dma.write(hi, lo, bytes, pasid, flags) : dma.read(hi, lo, bytes, pasid, flags);
  }

  #done(result: TlbAccess): TlbAccess {
    this.#requests = 0;
    this.#answer = NO_ANSWER;
    this.#answeredAtOnce = false;
    return result;
  }
}
