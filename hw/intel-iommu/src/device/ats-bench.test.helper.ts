/** A function with a device TLB as the unit sees it, and what the unit answers to it. */
import { Access, NO_PASID } from '@remora/core';
import { hiOf, loOf, type Wide } from '@remora/bits';
import { AtsCompletion, AtsStatus, type AtsEndpoint, type PageRequest } from '@remora/iommu';
import type { VtdConfig } from '../config/index.js';
import { FaultRecord } from '../spec/index.js';
import { type Bench, FULL, RID, type Surroundings } from './bench.test.helper.js';

/** All that ATS and page requests need, and both stages. */
export const ATS: Partial<VtdConfig> = { ...FULL, 'device-iotlb': true, svm: true };
/** Context entries that allow it all. */
export const ENABLED = { dte: 1, paside: 1, pre: 1 } as const;

/** A translation completion without what does not matter: the page, its size, what is granted, and other flags that are set. */
export interface Answer {
  readonly to: number;
  readonly shift: number;
  readonly access: number;
  readonly flags?: readonly string[];
}

const FLAGS = ['untranslatedOnly', 'privileged', 'global', 'nonSnooped'] as const;

/** What the unit answers to a translation request: a completion, or a status. */
export function ask(
  bench: Bench,
  iova: Wide,
  access: number = Access.READ_WRITE,
  pasid: number = NO_PASID,
  rid: number = RID,
): Answer | number {
  const out = new AtsCompletion();
  // What an earlier answer left there must not show.
  Object.assign(out, { hi: -1, lo: -1, shift: 63, access: 7, untranslatedOnly: true, global: true, nonSnooped: true });
  const status = bench.unit.translationRequest(rid, pasid, hiOf(iova), loOf(iova), access, out);
  if (status !== AtsStatus.OK) return status;
  const flags = FLAGS.filter(flag => out[flag]);
  const answer = { to: out.hi * 2 ** 32 + out.lo, shift: out.shift, access: out.access };
  return flags.length === 0 ? answer : { ...answer, flags };
}

/** What the unit grants at an address; the status if it refuses. */
export function granted(bench: Bench, iova: Wide, access?: number, pasid?: number): number {
  const answer = ask(bench, iova, access, pasid);
  return typeof answer === 'number' ? -answer : answer.access;
}

/** The status of a translated request. */
export function translated(
  bench: Bench,
  address: Wide,
  access: number = Access.READ,
  pasid: number = NO_PASID,
  rid: number = RID,
): AtsStatus {
  return bench.unit.translatedRequest(rid, pasid, hiOf(address), loOf(address), access);
}

/** The fields of the first fault record. */
export function firstRecord(bench: Bench): Record<string, number> {
  const { faultRecordBase } = bench.unit.capabilities;
  const words = bench.unit.registers.words.subarray(faultRecordBase / 4, faultRecordBase / 4 + 4);
  return FaultRecord.decode(words) as unknown as Record<string, number>;
}

/** An invalidation that a function was sent. */
export interface Received {
  readonly pasid: number;
  readonly global: boolean;
  readonly address: number;
  readonly shift: number;
}

/** How a function deals with invalidations. */
export type Manner = 'at once' | 'within the call' | 'later' | 'never';

/** A function that notes what it is sent. */
export class FakeFunction implements AtsEndpoint {
  manner: Manner = 'at once';
  readonly received: Received[] = [];
  /** [PASID, group, code]. */
  readonly responses: (readonly [number, number, number])[] = [];
  /** Completions that the function owes, in order. */
  readonly owed: (() => void)[] = [];

  invalidate(pasid: number, global: boolean, hi: number, lo: number, shift: number, completed: () => void): boolean {
    this.received.push({ pasid, global, address: (hi >>> 0) * 2 ** 32 + (lo >>> 0), shift });
    if (this.manner === 'later') this.owed.push(completed);
    if (this.manner === 'within the call') completed();
    return this.manner === 'at once';
  }

  pageResponse(pasid: number, group: number, code: number): void {
    this.responses.push([pasid, group, code]);
  }
}

/** Functions by requester id. */
export function functions(present: Record<number, AtsEndpoint>): Required<Pick<Surroundings, 'endpoint'>> {
  return { endpoint: requesterId => present[requesterId] };
}

/** A page request of RID; all but the address by default. */
export function pageRequest(address: Wide, values: Partial<PageRequest> = {}): PageRequest {
  return {
    requesterId: RID,
    pasid: NO_PASID,
    hi: hiOf(address),
    lo: loOf(address),
    access: Access.READ_WRITE,
    group: 3,
    last: true,
    ...values,
  };
}
