/**
 * The HostIOMMUContext of a VFIO container [A06, A08, A13, A18]. The kernel repeats each call on every device of the container, so
 * the users of a PASID are counted here: one BIND for the first device that binds it, one UNBIND after the last (decisions.md,
 * rows 45 and 46).
 */
import { Errno, logger } from '@remora/core';
import {
  type HostIOMMUContext,
  HostIommuFlag,
  sameStage1,
  type Stage1Config,
  type Stage1FlushBatch,
} from '@remora/iommu';
import {
  VFIO_IOMMU_BIND,
  VFIO_IOMMU_CACHE_INVALIDATE,
  VFIO_IOMMU_PASID_REQUEST,
  VfioIommuType1PasidRequest,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';
import type { NestingCapability } from './iommu-info.js';
import type { VfioQuirks } from './options.js';
import { bindBytes, FlushBytes, pasidAllocBytes, pasidFreeBytes, unbindBytes } from './stage1-bytes.js';

/** What the context needs of its container. */
export interface ContextHome {
  readonly name: string;
  readonly syscalls: HostSyscalls;
  readonly fd: number;
  /** Counts the devices that ever joined: a binding does not reach those that came after it. */
  readonly joined: number;
}

interface Binding {
  config: Stage1Config;
  readonly users: Set<number>;
  /** The container's `joined` when the kernel was last told. */
  told: number;
  /** Under quirk Q-PERDEV: the kernel removed it with the first UNBIND, and refuses the others. */
  removed?: boolean;
}

export class VfioHostIOMMUContext implements HostIOMMUContext {
  readonly name: string;
  readonly flags: number;
  readonly stage1Format: number;
  readonly replacesAtomically = false;
  readonly #home: ContextHome;
  readonly #quirks: VfioQuirks;
  readonly #flush: FlushBytes;
  readonly #bindings = new Map<number, Binding>();
  readonly #log;

  /** `capability` is undefined only under quirk Q12. */
  constructor(home: ContextHome, capability: NestingCapability | undefined, quirks: VfioQuirks) {
    this.#home = home;
    this.#quirks = quirks;
    this.#flush = new FlushBytes(quirks);
    this.name = home.name;
    this.flags = HostIommuFlag.NESTING | (capability?.pasidRequests === true ? HostIommuFlag.PASID_REQUEST : 0);
    this.stage1Format = capability?.stage1Format ?? 0;
    this.#log = logger('remora:host:vfio', home.name);
  }

  /** PASIDs that are bound at the host, with the users that share each. For inspection. */
  get bindings(): ReadonlyMap<number, { readonly config: Stage1Config; readonly users: ReadonlySet<number> }> {
    return this.#bindings;
  }

  pasidAlloc(min: number, max: number): number {
    const bytes = pasidAllocBytes(min, max);
    const result = this.#ioctl('PASID alloc', VFIO_IOMMU_PASID_REQUEST, bytes);
    return result < 0 ? result : VfioIommuType1PasidRequest.fields.result.get(viewOf(bytes));
  }

  pasidFree(pasid: number): number {
    return this.#done(this.#ioctl('PASID free', VFIO_IOMMU_PASID_REQUEST, pasidFreeBytes(pasid)));
  }

  /**
   * A further user of a PASID that is bound alike costs no call, unless a device joined the container since the last one. One that
   * wants another configuration cannot be served: -EBUSY, and the host is not asked. The only user that binds again asks the host,
   * which knows whether it can replace a binding.
   */
  bindStage1(user: number, pasid: number, config: Stage1Config): number {
    const known = this.#quirks.perDevice === true ? undefined : this.#bindings.get(pasid);
    if (known !== undefined && !(known.users.has(user) && known.users.size === 1)) {
      if (!sameStage1(known.config, config)) return -Errno.EBUSY;
      if (known.told === this.#home.joined) {
        known.users.add(user);
        return 0;
      }
    }
    const told = this.#home.joined;
    const result = this.#ioctl('bind', VFIO_IOMMU_BIND, bindBytes(pasid, config, this.#quirks));
    if (result < 0) return result;
    this.#remember(user, pasid, config, told);
    return 0;
  }

  /** -EINVAL if `user` did not bind it. If the host refuses, the binding stays and so does its user. */
  unbindStage1(user: number, pasid: number): number {
    const known = this.#bindings.get(pasid);
    if (known === undefined || !known.users.has(user)) return -Errno.EINVAL;
    if (known.users.size === 1 || this.#quirks.perDevice === true) {
      const result = this.#ioctl('unbind', VFIO_IOMMU_BIND, unbindBytes(pasid));
      if (result < 0 && known.removed !== true) return result;
      known.removed = true;
    }
    known.users.delete(user);
    if (known.users.size === 0) this.#bindings.delete(pasid);
    return 0;
  }

  /** One call for each entry: the interface has no more than one flush in it. */
  flushStage1Caches(batch: Stage1FlushBatch): number {
    batch.accepted = 0;
    while (batch.accepted < batch.length) {
      const bytes = this.#flush.encode(batch.begin(batch.accepted));
      const result = this.#ioctl('flush', VFIO_IOMMU_CACHE_INVALIDATE, bytes);
      if (result < 0) return result;
      batch.accepted++;
    }
    return 0;
  }

  #remember(user: number, pasid: number, config: Stage1Config, told: number): void {
    const copy = { ...config, attributes: { ...config.attributes } };
    const known = this.#bindings.get(pasid);
    if (known === undefined) {
      this.#bindings.set(pasid, { config: copy, users: new Set([user]), told });
      return;
    }
    known.config = copy;
    known.users.add(user);
    known.told = told;
  }

  #ioctl(what: string, request: number, bytes: Uint8Array): number {
    const result = this.#home.syscalls.ioctl(this.#home.fd, request, bytes);
    if (result < 0) this.#log.warn('%s failed: %d', what, result);
    return result;
  }

  /** Only PASID allocation has a result beyond success. */
  #done(result: number): number {
    return result < 0 ? result : 0;
  }
}
