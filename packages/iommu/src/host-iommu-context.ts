/**
 * HostIOMMUContext [A04, A06, A13, A18]: what a vIOMMU sees of the host's IOMMU, one per VFIO container (or per iommufd
 * address space). A vIOMMU never knows which kind of host it talks to.
 *
 * Results are 0 (or a PASID) for success and a negated errno otherwise. Whenever one is negative, the configuration that was in
 * force before the call is still in force. No operation is called re-entrantly.
 */
import { Errno } from '@remora/core';
import type { HostIommuEvents } from './host-iommu-events.js';
import type { Stage1Config } from './stage1.js';
import type { Stage1FlushBatch } from './stage1-flush-batch.js';

/** What a host context can do: a bit set. The first two are the RFC's [A04, A13], and all that VFIO's interface has. */
export const HostIommuFlag = {
  PASID_REQUEST: 1,
  NESTING: 2,
  /** `listen` tells page requests, and `respondToPage` takes their responses. */
  PAGE_REQUESTS: 4,
  /** `listen` tells faults. */
  FAULTS: 8,
  /** PASID 0 can be bound: it stands for requests without PASID, as RID_PASID 0 has it. See `withoutStage1`. */
  PASID_0: 16,
  /** With PASID_REQUEST: PASIDs belong to the guest as a whole. What one context with this flag gave, another takes back. */
  GUEST_PASIDS: 32,
} as const;

/** What becomes of a function's requests with a PASID that is not bound (PASID 0: of those without one). */
export type HostPolicy =
  /** They use guest-physical addresses. For PASID 0 that is so until another policy is set. */
  | 'pass-through'
  /** They are refused. */
  | 'abort';

export interface HostIOMMUContext {
  /** For the ledger and messages: `container0`. */
  readonly name: string;
  /** HostIommuFlag bits. */
  readonly flags: number;
  /** Stage1Format of the host's first stage; 0 if it has none. */
  readonly stage1Format: number;
  /** Whether bindStage1 on a bound PASID replaces the old root atomically (iommufd); otherwise it must be unbound first. */
  readonly replacesAtomically: boolean;

  /** Allocates a PASID in [min, max] (both inclusive, as the uAPI has it). Returns it, or -errno. */
  pasidAlloc(min: number, max: number): number;
  pasidFree(pasid: number): number;
  /** Binds `config` at `pasid` for the device that `user` stands for (its requester id in the guest). */
  bindStage1(user: number, pasid: number, config: Stage1Config): number;
  unbindStage1(user: number, pasid: number): number;
  /**
   * Flushes what the host cached of the first stage: entry by entry in the batch's order, none before the ones ahead of it. 0 if all is
   * done; otherwise a negated errno, and `batch.accepted` tells the entry that was refused: those before it are done, of those after
   * it none need be. Asking for a flush again is harmless.
   */
  flushStage1Caches(batch: Stage1FlushBatch): number;
  /**
   * With PASID_0: no first stage serves `pasid` of the device that `user` stands for, and the policy holds there until bindStage1. One that is bound is
   * replaced. unbindStage1 is the same as 'abort'.
   */
  withoutStage1?(user: number, pasid: number, policy: HostPolicy): number;
  /** With PAGE_REQUESTS or FAULTS: reports of the device that `user` stands for go to `events` until this is disposed of. One listener each. */
  listen?(user: number, events: HostIommuEvents): Disposable;
  /**
   * With PAGE_REQUESTS: answers page request group `group` of `pasid` (NO_PASID: of requests without one). `code` is a PageResponse, or
   * reserved; one that the host's interface cannot express is INVALID_REQUEST there. -EINVAL if no such group waits, for the host has
   * answered it itself (unbound, replaced) or never asked. On any other error the group waits on.
   */
  respondToPage?(user: number, pasid: number, group: number, code: number): number;
}

/** As the RFC's wrapper [A04]: -ENOENT unless there is a context and it offers PASID requests. */
export function hostPasidAlloc(context: HostIOMMUContext | undefined, min: number, max: number): number {
  return context !== undefined && context.flags & HostIommuFlag.PASID_REQUEST
    ? context.pasidAlloc(min, max)
    : -Errno.ENOENT;
}

/** As the RFC's wrapper [A04]: -ENOENT unless there is a context and it offers PASID requests. */
export function hostPasidFree(context: HostIOMMUContext | undefined, pasid: number): number {
  return context !== undefined && context.flags & HostIommuFlag.PASID_REQUEST
    ? context.pasidFree(pasid)
    : -Errno.ENOENT;
}

/** As the RFC's wrapper [A13]: -ENOENT unless there is a context and it nests. */
export function hostBindStage1(
  context: HostIOMMUContext | undefined,
  user: number,
  pasid: number,
  config: Stage1Config,
): number {
  return context !== undefined && context.flags & HostIommuFlag.NESTING
    ? context.bindStage1(user, pasid, config)
    : -Errno.ENOENT;
}

/** As the RFC's wrapper [A13]: -ENOENT unless there is a context and it nests. */
export function hostUnbindStage1(context: HostIOMMUContext | undefined, user: number, pasid: number): number {
  return context !== undefined && context.flags & HostIommuFlag.NESTING
    ? context.unbindStage1(user, pasid)
    : -Errno.ENOENT;
}

/** As the RFC's wrapper [A18]: -ENOENT, and nothing is done, unless there is a context and it nests. */
export function hostFlushStage1Caches(context: HostIOMMUContext | undefined, batch: Stage1FlushBatch): number {
  if (context !== undefined && context.flags & HostIommuFlag.NESTING) return context.flushStage1Caches(batch);
  batch.accepted = 0;
  return -Errno.ENOENT;
}
