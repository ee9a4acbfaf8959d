/**
 * What caching mode adds to context cache and PASID cache: entries that are not present or not in order, with the reason for which they
 * were refused (CAP.CM, vtd.md 2.1 and 9 rule 3). They stay in force until an invalidation covers them, so that a driver that forgets it
 * notices. What could not be read is no entry, and not cached. On no path that is fast; bounded, and emptied when full.
 */
import { Fault } from '../spec/index.js';

/** Devfn bits that a function mask makes a device-selective invalidation ignore (VT-d 6.5.2.1: FM). */
export const FUNCTION_MASKS = [0xffff, 0xfffb, 0xfff9, 0xfff8] as const;

/** A refused entry, for people and for the unit's state. */
export interface FaultingEntry {
  readonly requesterId: number;
  /** -1 for a context entry. */
  readonly pasid: number;
  readonly reason: number;
  readonly fpd: boolean;
  readonly domain: number;
}

const MOST = 4096;
const PASIDS = 2 ** 20;

const UNREADABLE: ReadonlySet<number> = new Set([
  ...[Fault.LRT_1, Fault.LCT_1],
  ...[Fault.SRT_1, Fault.SCT_1, Fault.SPD_1, Fault.SPT_1],
]);

/** A reason, an FPD bit and a domain in one integer. */
const Refusal = {
  make: (reason: number, fpd: boolean, domain: number): number => reason | (fpd ? 0x100 : 0) | (domain << 9),
  reason: (refusal: number): number => refusal & 0xff,
  fpd: (refusal: number): boolean => (refusal & 0x100) !== 0,
  domain: (refusal: number): number => refusal >>> 9,
  entry: (requesterId: number, pasid: number, refusal: number): FaultingEntry => ({
    requesterId,
    pasid,
    reason: Refusal.reason(refusal),
    fpd: Refusal.fpd(refusal),
    domain: Refusal.domain(refusal),
  }),
} as const;

class FaultingEntries {
  readonly refusals = new Map<number, number>();

  /** The reason for which an entry was refused; 0 if it was not. */
  reason(key: number): number {
    return Refusal.reason(this.refusals.get(key) ?? 0);
  }

  /** The FPD bits that were met then. */
  fpd(key: number): boolean {
    return Refusal.fpd(this.refusals.get(key) ?? 0);
  }

  invalidateAll(): void {
    this.refusals.clear();
  }

  protected put(key: number, reason: number, fpd: boolean, domain: number): void {
    if (UNREADABLE.has(reason)) return;
    if (this.refusals.size >= MOST) this.refusals.clear();
    this.refusals.set(key, Refusal.make(reason, fpd, domain));
  }
}

/** By requester id. What is not present belongs to domain 0, what is present but not in order to domain 0 and to its own. */
export class FaultingContexts extends FaultingEntries {
  /** `domain`: that of a legacy entry that is present; else 0. */
  add(requesterId: number, reason: number, fpd: boolean, domain: number): void {
    this.put(requesterId, reason, fpd, domain);
  }

  /** Legacy mode. */
  invalidateDomain(domain: number): void {
    for (const [key, refusal] of this.refusals) if (belongs(refusal, domain)) this.refusals.delete(key);
  }

  /** As ContextCache.invalidateDevice. */
  invalidateDevice(sourceId: number, functionMask: number, domain: number, anyDomain: boolean): void {
    const mask = FUNCTION_MASKS[functionMask]!;
    for (const [key, refusal] of this.refusals) {
      if (((key ^ sourceId) & mask) === 0 && (anyDomain || belongs(refusal, domain))) this.refusals.delete(key);
    }
  }

  *entries(): Generator<FaultingEntry> {
    for (const [requesterId, refusal] of this.refusals) yield Refusal.entry(requesterId, -1, refusal);
  }
}

/**
 * By requester id and PASID. An entry that was refused has no domain: a driver names that of the entry which it has put there, so that
 * all domains' invalidations cover it.
 */
export class FaultingPasids extends FaultingEntries {
  key(requesterId: number, pasid: number): number {
    return requesterId * PASIDS + pasid;
  }

  add(requesterId: number, pasid: number, reason: number, fpd: boolean): void {
    this.put(this.key(requesterId, pasid), reason, fpd, 0);
  }

  invalidatePasid(pasid: number): void {
    for (const key of this.refusals.keys()) if (key % PASIDS === pasid) this.refusals.delete(key);
  }

  *entries(): Generator<FaultingEntry> {
    for (const [key, refusal] of this.refusals) {
      yield Refusal.entry(Math.floor(key / PASIDS), key % PASIDS, refusal);
    }
  }
}

function belongs(refusal: number, domain: number): boolean {
  return domain === 0 || Refusal.domain(refusal) === domain;
}
