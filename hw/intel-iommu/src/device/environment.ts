import type { Ledger, MemoryPort, Trace, VirtualClock } from '@remora/core';
import type { AtsEndpoint } from '@remora/iommu';

/** What a VT-d unit is given. */
export interface VtdEnvironment {
  /** For the ledger and messages. */
  readonly name: string;
  /** Where tables, the queue and status words are. */
  readonly memory: MemoryPort;
  /** The unit's own messages (faults, completions): they are never remapped. */
  sendMsi(hi: number, lo: number, data: number): void;
  readonly ledger?: Ledger;
  readonly trace?: Trace;
  readonly propagation?: VtdPropagation;
  /**
   * The function that has this requester id now, if it is there and has a device TLB. Absent: nothing has one, and invalidations are done
   * when they are sent.
   */
  endpoint?(requesterId: number): AtsEndpoint | undefined;
  /** Requester ids of the functions below. Absent: the unit learns of a requester by its requests. */
  requesters?(): Iterable<number>;
  /**
   * Measures how long a function takes to complete an invalidation. Absent: one that is not there times out at once, and others have all
   * the time they need.
   */
  readonly clock?: VirtualClock;
  /** Sees each fault (a FaultRecord without F, 4 words, reused) before overflow and compression decide about it. */
  faultOffered?(record: Int32Array): void;
  /** Sees each fault that an FPD bit suppressed. */
  faultSuppressed?(reason: number): void;
}

/**
 * What happens beyond the unit's own caches. Called while a descriptor or command executes, after the unit's own caches are
 * done and before any later wait completes. Those that return a number: 0, or a negated errno, which fails the descriptor (IQE
 * at its index).
 */
export interface VtdPropagation {
  /** `granularity` 1 global, 2 domain, 3 device (`functionMask` as in the descriptor). */
  contextCacheInvalidate?(granularity: number, domain: number, sourceId: number, functionMask: number): number;
  /** `granularity` 0 domain, 1 PASID, 3 global. */
  pasidCacheInvalidate?(granularity: number, domain: number, pasid: number): number;
  /**
   * `granularity` 2 PASID, 3 pages: 2^addressMask pages around (hi, lo); `leaf` if only leaf entries changed. What returned 0 may be
   * collected until `settle`.
   */
  pasidIotlbInvalidate?(
    granularity: number,
    domain: number,
    pasid: number,
    hi: number,
    lo: number,
    addressMask: number,
    leaf: boolean,
  ): number;
  /**
   * Does, in order, what calls of pasidIotlbInvalidate since the last settlement have collected: called before anything else happens, and
   * after 256 of them at the latest. Returns -1, or the number (from 0) of the first call whose flush a host refused: those before it are
   * done, those after it need not be.
   */
  settle?(): number;
  /** `granularity` 1 global, 2 domain, 3 pages. */
  iotlbInvalidate?(
    granularity: number,
    domain: number,
    hi: number,
    lo: number,
    addressMask: number,
    leaf: boolean,
  ): number;
  /** `pasid` -1: none named; `global`: all PASIDs. `shift` is log2 of the range in bytes. */
  deviceTlbInvalidate?(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    shift: number,
    global: boolean,
  ): void;
  /**
   * A page group response to a function that a host lends: 0 or a negated errno. undefined for any other function, which is told itself.
   */
  pageResponse?(requesterId: number, pasid: number, group: number, code: number): number | undefined;
  rootTableSet?(): void;
  translationChanged?(enabled: boolean): void;
  reset?(): void;
  /** A virtual command, called once for each that executes [A10]. */
  virtualCommand?(opcode: number, pasid: number): VirtualCommandResult;
}

export interface VirtualCommandResult {
  readonly status: 'ok' | 'undefined' | 'no-pasid';
  /** The PASID that was allocated; 0 otherwise. */
  readonly result: number;
}
