/**
 * The PASIDs of one guest. iommufd has no ioctl that hands any out: a guest owns its PASIDs. A vIOMMU whose guest asks for one by virtual command
 * is given it here, by the rules that hosts had who did that (RFC v3.1): each number once, and none back that is bound.
 */
import { Errno } from '@remora/core';

export class PasidNumbers {
  readonly #given = new Set<number>();
  /** How many devices have each bound. */
  readonly #bound = new Map<number, number>();

  /** The lowest in [min, max] that is neither given nor bound, or -ENOSPC. */
  allocate(min: number, max: number): number {
    if (min > max) return -Errno.EINVAL;
    for (let pasid = Math.max(1, min); pasid <= max; pasid++) {
      // A guest may have taken some by itself.
      if (this.#given.has(pasid) || this.#bound.has(pasid)) continue;
      this.#given.add(pasid);
      return pasid;
    }
    return -Errno.ENOSPC;
  }

  /** 0, -EINVAL for one that was not given, -EBUSY for one that a device has bound. */
  free(pasid: number): number {
    if (!this.#given.has(pasid)) return -Errno.EINVAL;
    if (this.#bound.has(pasid)) return -Errno.EBUSY;
    this.#given.delete(pasid);
    return 0;
  }

  bound(pasid: number): void {
    this.#bound.set(pasid, (this.#bound.get(pasid) ?? 0) + 1);
  }

  unbound(pasid: number): void {
    const users = (this.#bound.get(pasid) ?? 0) - 1;
    if (users > 0) this.#bound.set(pasid, users);
    else this.#bound.delete(pasid);
  }
}
