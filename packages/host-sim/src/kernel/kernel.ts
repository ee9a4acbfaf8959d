/** What the parts of the simulated kernel share: memory, the PASID space, groups, interrupts, and the injected IOMMU. */
import type { Ledger } from '@remora/core';
import { type HostIommuDriver, PageResponse } from '@remora/iommu';
import type { PhysicalDevice } from '../devices/physical-device.js';
import type { FailureInjector } from '../options.js';
import type { Frames } from '../memory/frames.js';
import type { HostInterrupts } from './interrupts.js';
import type { IommuGroup } from './iommu-group.js';
import { Attachments } from './iommufd/attachments.js';
import type { KernelKnobs } from './knobs.js';
import type { PasidSpace } from './pasid-space.js';
import { PinAccounts } from './pin-accounts.js';
import { VmidSpace } from './vmid-space.js';

export interface KernelParts {
  readonly frames: Frames;
  readonly pasids: PasidSpace;
  readonly interrupts: HostInterrupts;
  readonly knobs: KernelKnobs;
  readonly ledger: Ledger;
  readonly fails: FailureInjector;
}

export class Kernel {
  readonly frames: Frames;
  readonly pasids: PasidSpace;
  readonly vmids = new VmidSpace();
  /** Asked before something is allocated or queued: 0, or the negated errno with which that fails. */
  readonly fails: FailureInjector;
  readonly interrupts: HostInterrupts;
  readonly knobs: KernelKnobs;
  readonly ledger: Ledger;
  /** What iommufd has pinned. */
  readonly pins = new PinAccounts();
  /** By number. Without an IOMMU there are none: VFIO lends nothing that it cannot fence in. */
  readonly groups = new Map<number, IommuGroup>();
  /** By address: `0000:3f:00.0`. */
  readonly devices = new Map<string, PhysicalDevice>();
  iommu: { readonly driver: HostIommuDriver } | undefined;
  /** What is lent through iommufd, and what serves it. */
  readonly attachments = new Attachments(this);

  constructor(parts: KernelParts) {
    this.frames = parts.frames;
    this.pasids = parts.pasids;
    this.interrupts = parts.interrupts;
    this.knobs = parts.knobs;
    this.ledger = parts.ledger;
    this.fails = parts.fails;
  }

  /** Stage1Format that the kernel reports and takes; 0 if the unit does not nest. */
  get stage1Format(): number {
    const format = this.iommu?.driver.stage1Format ?? 0;
    return format === 0 ? 0 : (this.knobs.stage1Format ?? format);
  }

  /** What the unit's page-request interrupt does: hands on what is queued, and refuses what nobody waits for. */
  takePageRequests(): void {
    const user = this.iommu?.driver.user;
    for (const request of user?.takePageRequests() ?? []) {
      const through = this.attachments.find(request.requesterId, request.pasid);
      const queue = through?.hwpt.faultQueue;
      if (this.ledger.on) this.note('page-request', { ...request, queue: queue?.id ?? null });
      if (through !== undefined && queue !== undefined) queue.take(through, request);
      else if (request.last) user?.respond(request, PageResponse.INVALID_REQUEST);
    }
  }

  /** Puts what the kernel did into the ledger. */
  note(operation: string, data: Record<string, unknown>): void {
    if (this.ledger.on) this.ledger.add('host/kernel', 'kernel', { operation, ...data });
  }
}
