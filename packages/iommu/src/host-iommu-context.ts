/**
 * HostIOMMUContext [A04, A06, A13, A18]: what a vIOMMU sees of the host's IOMMU, one per VFIO container (or per iommufd
 * address space). A vIOMMU never knows which kind of host it talks to.
 *
 * Results are 0 (or a PASID) for success and a negated errno otherwise. Whenever one is negative, the configuration that was in
 * force before the call is still in force. No operation is called re-entrantly.
 */
import { Errno } from '@remora/core';
import type { Stage1Config, Stage1Flush } from './stage1.js';

/** What a host context can do: a bit set [A04, A13]. */
export const HostIommuFlag = {
  PASID_REQUEST: 1,
  NESTING: 2,
} as const;

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
  /** Flushes what the host cached of the first stage. */
  flushStage1Cache(flush: Stage1Flush): number;
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

/** As the RFC's wrapper [A18]: -ENOENT unless there is a context and it nests. */
export function hostFlushStage1Cache(context: HostIOMMUContext | undefined, flush: Stage1Flush): number {
  return context !== undefined && context.flags & HostIommuFlag.NESTING
    ? context.flushStage1Cache(flush)
    : -Errno.ENOENT;
}
