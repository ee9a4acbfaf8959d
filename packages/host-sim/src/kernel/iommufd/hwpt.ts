/** Hardware page tables: of an address space, or a guest's own over one of those. */
import { Errno, NO_PASID } from '@remora/core';
import type { HostNestedDomain, HostPagingDomain } from '@remora/iommu';
import type { IommufdContext } from './context.js';
import type { IommufdDevice } from './device.js';
import type { FaultQueue } from './fault-queue.js';
import { Ioas } from './ioas.js';
import { IommufdObject } from './objects.js';

export interface HwptOptions {
  /** IOMMU_HWPT_ALLOC_PASID: it may serve a PASID, or a device that has some. */
  readonly pasidCompatible: boolean;
  readonly faultQueue: FaultQueue | undefined;
}

export abstract class Hwpt extends IommufdObject {
  abstract readonly domain: HostPagingDomain | HostNestedDomain;
  /** The page table that shows an address space: itself, or what it is nested over. */
  abstract readonly paging: HwptPaging;
  readonly pasidCompatible: boolean;
  readonly faultQueue: FaultQueue | undefined;

  constructor(options: HwptOptions) {
    super();
    this.pasidCompatible = options.pasidCompatible;
    this.faultQueue = options.faultQueue;
    if (this.faultQueue !== undefined) this.faultQueue.users++;
  }

  /** One attachment less. */
  put(): void {
    this.users--;
  }

  override release(): void {
    if (this.faultQueue !== undefined) this.faultQueue.users--;
  }
}

export interface HwptPagingOptions extends HwptOptions {
  readonly nestParent: boolean;
  readonly dirtyTracking: boolean;
  /** Made for a device that was attached to an address space: goes with the last one. */
  readonly auto: boolean;
}

export class HwptPaging extends Hwpt {
  readonly kind = 'hwpt-paging';
  readonly ioas: Ioas;
  readonly domain: HostPagingDomain;
  readonly nestParent: boolean;
  /** Whether it can tell which pages were written. */
  readonly tracksDirty: boolean;
  readonly auto: boolean;
  readonly #context: IommufdContext;

  /** Takes `domain` over, in which `ioas` is shown. */
  constructor(context: IommufdContext, ioas: Ioas, domain: HostPagingDomain, options: HwptPagingOptions) {
    super(options);
    this.#context = context;
    this.ioas = ioas;
    this.domain = domain;
    this.nestParent = options.nestParent;
    this.tracksDirty = options.dirtyTracking;
    this.auto = options.auto;
    ioas.users++;
  }

  get paging(): this {
    return this;
  }

  override put(): void {
    super.put();
    if (this.auto && this.users === 0) this.#context.objects.remove(this);
  }

  override release(): void {
    super.release();
    this.ioas.removeDomain(this.domain);
    this.domain[Symbol.dispose]();
    this.ioas.users--;
  }

  override state(): unknown {
    return { ioas: this.ioas.id, domain: this.domain.id, auto: this.auto };
  }
}

export class HwptNested extends Hwpt {
  readonly kind = 'hwpt-nested';
  readonly domain: HostNestedDomain;
  readonly paging: HwptPaging;
  readonly #viommu: IommufdObject | undefined;

  /** Takes `domain` over. `viommu`: the one of which it was made, if any. */
  constructor(domain: HostNestedDomain, parent: HwptPaging, viommu: IommufdObject | undefined, options: HwptOptions) {
    super(options);
    this.domain = domain;
    this.paging = parent;
    this.#viommu = viommu;
    (viommu ?? parent).users++;
  }

  override release(): void {
    super.release();
    this.domain[Symbol.dispose]();
    (this.#viommu ?? this.paging).users--;
  }

  override state(): unknown {
    return { parent: this.paging.id, viommu: this.#viommu?.id ?? null };
  }
}

/** A new page table that shows `ioas`, not yet among the objects. A negated errno if the driver has none such, or `ioas` does not fit in. */
export function createPaging(context: IommufdContext, ioas: Ioas, options: HwptPagingOptions): HwptPaging | number {
  const user = context.kernel.iommu!.driver.user!;
  const { nestParent, dirtyTracking, pasidCompatible: pasid, faultQueue } = options;
  const domain = user.createPaging({ nestParent, dirtyTracking, pasid, pageRequests: faultQueue !== undefined });
  if (typeof domain === 'number') return domain;
  const error = ioas.addDomain(domain);
  if (error !== 0) {
    domain[Symbol.dispose]();
    return error;
  }
  return new HwptPaging(context, ioas, domain, options);
}

/**
 * Finds the page table that `object`, which user space named, stands for, and attaches it: of an address space the first automatic one that the device
 * can have, or a new one. Returns its id, or a negated errno: -EINVAL for an object of another kind.
 */
export function attachable(
  device: IommufdDevice,
  pasid: number,
  object: IommufdObject | number,
  attach: (hwpt: Hwpt) => number,
): number {
  if (typeof object === 'number') return object;
  if (object instanceof Hwpt) return attach(object) || object.id;
  return object instanceof Ioas ? attachIoas(device, pasid, object, attach) : -Errno.EINVAL;
}

function attachIoas(device: IommufdDevice, pasid: number, ioas: Ioas, attach: (hwpt: Hwpt) => number): number {
  // An automatic page table is not made for PASIDs.
  if (pasid !== NO_PASID) return -Errno.EINVAL;
  const { context } = device;
  for (const hwpt of context.objects.all(HwptPaging)) {
    if (!hwpt.auto || hwpt.ioas !== ioas) continue;
    const error = attach(hwpt);
    if (error !== -Errno.EINVAL) return error || hwpt.id;
  }
  const options = { nestParent: false, dirtyTracking: false, pasidCompatible: false, faultQueue: undefined };
  const made = createPaging(context, ioas, { ...options, auto: true });
  if (typeof made === 'number') return made;
  const failed = context.objects.add(made);
  if (failed !== 0) return failed;
  const error = attach(made);
  if (error !== 0) context.objects.remove(made);
  return error || made.id;
}
