/** Invalidations as verbs, through the queue if it is enabled, else through registers as far as these go. */
import { Errno } from '@remora/core';
import { PasidCacheGranularity, PasidIotlbGranularity } from '../spec/index.js';
import type { VtdCapabilities } from './capabilities.js';
import {
  contextCacheDescriptor,
  deviceTlbDescriptor,
  type Drain,
  EVERYTHING_SHIFT,
  interruptEntryCacheDescriptor,
  iotlbDescriptor,
  type PageGroupResponse,
  pageGroupResponseDescriptor,
  type PageRange,
  pasidCacheDescriptor,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  waitDescriptor,
  type WaitValues,
} from './descriptors.js';
import type { InvalidationQueue } from './invalidation-queue.js';
import { RegisterInvalidation } from './register-invalidation.js';
import type { VtdRegisters } from './registers.js';

/** Descriptors of one batch at most: the smallest queue holds them. */
const BATCH = 64;

/**
 * Each verb is one descriptor followed by a wait, complete when it returns: 0; -EINVAL if the unit refused the descriptor (then
 * `queue.failure` says more); -EIO if the unit did not finish; -EOPNOTSUPP if there is no queue and no register for it.
 */
export class VtdInvalidations {
  readonly capabilities: VtdCapabilities;
  readonly #byRegister: RegisterInvalidation;
  readonly #drain: Drain;
  #queue: InvalidationQueue | undefined;

  constructor(registers: VtdRegisters, capabilities: VtdCapabilities) {
    this.capabilities = capabilities;
    this.#byRegister = new RegisterInvalidation(registers, capabilities.iotlbRegisters);
    this.#drain = { reads: capabilities.cap.drd === 1, writes: capabilities.cap.dwd === 1 };
  }

  /** The queue while it is enabled. @throws Error if it is not. */
  get queue(): InvalidationQueue {
    if (this.#queue === undefined) throw new Error('VT-d: the invalidation queue is not enabled');
    return this.#queue;
  }

  /** Whether invalidations go through the queue. */
  get queued(): boolean {
    return this.#queue !== undefined;
  }

  /** Chooses the queue, or registers. */
  useQueue(queue: InvalidationQueue | undefined): void {
    this.#queue = queue;
  }

  /** Several descriptors and one wait. */
  invalidate(...descriptors: readonly Int32Array[]): number {
    return this.#queue === undefined ? -Errno.EOPNOTSUPP : this.#queue.submit(...descriptors);
  }

  /** Any number of descriptors, in as few batches as the queue needs. The first error ends it. */
  invalidateAll(descriptors: readonly Int32Array[]): number {
    if (descriptors.length > 0 && descriptors.length <= BATCH) return this.invalidate(...descriptors);
    for (let at = 0; at < descriptors.length; at += BATCH) {
      const status = this.invalidate(...descriptors.slice(at, at + BATCH));
      if (status !== 0) return status;
    }
    return 0;
  }

  /** `granularity`: `Granularity` in `spec`. */
  contextCacheInvalidate(granularity: number, domain = 0, sourceId = 0, functionMask = 0): number {
    return this.#queue === undefined
      ? this.#byRegister.contextCache(granularity, domain, sourceId, functionMask)
      : this.#queue.submit(contextCacheDescriptor(granularity, domain, sourceId, functionMask));
  }

  /** `granularity`: `Granularity` in `spec`; PAGE needs `range`. */
  iotlbInvalidate(granularity: number, domain = 0, range?: PageRange): number {
    return this.#queue === undefined
      ? this.#byRegister.iotlb(granularity, domain, this.#drain, range)
      : this.#queue.submit(this.iotlbDescriptor(granularity, domain, range));
  }

  /** `granularity`: `PasidCacheGranularity`. */
  pasidCacheInvalidate(granularity: number, domain = 0, pasid = 0): number {
    return this.invalidate(pasidCacheDescriptor(granularity, domain, pasid));
  }

  /** `granularity`: `PasidIotlbGranularity`; PAGE needs `range`. */
  pasidIotlbInvalidate(granularity: number, domain: number, pasid: number, range?: PageRange): number {
    return this.invalidate(pasidIotlbDescriptor(granularity, domain, pasid, range));
  }

  /** A function's device TLB for requests without PASID: `2 ** shift` bytes at `(hi, lo)`. */
  deviceTlbInvalidate(sourceId: number, hi = 0, lo = 0, shift = EVERYTHING_SHIFT): number {
    return this.invalidate(deviceTlbDescriptor(sourceId, hi, lo, shift));
  }

  pasidDeviceTlbInvalidate(sourceId: number, pasid: number, hi = 0, lo = 0, shift = EVERYTHING_SHIFT): number {
    return this.invalidate(pasidDeviceTlbDescriptor(sourceId, pasid, hi, lo, shift));
  }

  /** All interrupt entries, or `2 ** mask` from `index`. */
  interruptEntryCacheInvalidate(index?: number, mask = 0): number {
    return this.invalidate(interruptEntryCacheDescriptor(index, mask));
  }

  pageGroupResponse(response: PageGroupResponse): number {
    return this.invalidate(pageGroupResponseDescriptor(response));
  }

  /** Waits until the unit has done everything before; with `values` through one more wait descriptor of that kind. */
  wait(values?: WaitValues): number {
    return values === undefined ? this.invalidate() : this.invalidate(waitDescriptor(values));
  }

  /** A type 2 descriptor with the drain bits that this unit knows. */
  iotlbDescriptor(granularity: number, domain: number, range?: PageRange): Int32Array {
    return iotlbDescriptor(granularity, domain, this.#drain, range);
  }

  /** After the entry of a PASID is cleared or changed: PASID cache, then what was translated through it. */
  flushPasid(domain: number, pasid: number): number {
    const status = this.pasidCacheInvalidate(PasidCacheGranularity.PASID, domain, pasid);
    return status !== 0 ? status : this.pasidIotlbInvalidate(PasidIotlbGranularity.PASID, domain, pasid);
  }
}
