/**
 * What serves each lent device: at its requester id, and at each of its PASIDs. The devices of a group are served by the same page table, since the
 * unit may not tell them apart: the first that is attached brings it, the last takes it along.
 */
import { Errno, NO_PASID } from '@remora/core';
import type { PhysicalDevice } from '../../devices/physical-device.js';
import { insist } from '../insist.js';
import type { IommuGroup } from '../iommu-group.js';
import type { Kernel } from '../kernel.js';
import type { IommufdDevice } from './device.js';
import type { Hwpt } from './hwpt.js';

/** A device that is attached: what page requests come through. */
export interface Attachment {
  readonly device: IommufdDevice;
  readonly hwpt: Hwpt;
  /** NO_PASID for requests without one. */
  readonly pasid: number;
}

/** What a group has at one PASID. */
interface Served {
  hwpt: Hwpt;
  readonly devices: Map<IommufdDevice, Attachment>;
}

export class Attachments {
  readonly #kernel: Kernel;
  readonly #groups = new Map<IommuGroup, Map<number, Served>>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Through whom a request of the function with `pasid` comes; undefined if it is not lent through iommufd. */
  find(requesterId: number, pasid: number): Attachment | undefined {
    for (const served of this.#groups.values()) {
      for (const [device, attachment] of served.get(pasid)?.devices ?? []) {
        if (device.requesterId === requesterId) return attachment;
      }
    }
    return undefined;
  }

  of(device: IommufdDevice, pasid: number): Attachment | undefined {
    return this.#groups.get(device.group)?.get(pasid)?.devices.get(device);
  }

  /** The PASIDs at which the device is attached; NO_PASID among them. */
  pasidsOf(device: IommufdDevice): number[] {
    const served = [...(this.#groups.get(device.group) ?? [])];
    return served.filter(([, { devices }]) => devices.has(device)).map(([pasid]) => pasid);
  }

  /**
   * `hwpt` serves the device at `pasid` from now on, in place of what did. -EINVAL if it, or what is there already, may not be used along with
   * PASIDs, if it cannot serve the device, or if another device of the group has another; -EADDRINUSE if something is mapped where the device
   * cannot have it; then nothing has changed.
   */
  attach(device: IommufdDevice, pasid: number, hwpt: Hwpt): number {
    const before = this.of(device, pasid);
    if (before?.hwpt === hwpt) return 0;
    const refused = this.#incompatible(device.group, pasid, hwpt);
    if (refused !== 0) return refused;
    const served = this.#groups.get(device.group)?.get(pasid);
    if (served !== undefined && before === undefined && served.hwpt !== hwpt) return -Errno.EINVAL;
    const joining = before === undefined ? [device] : [...served!.devices.keys()];
    const reserved = this.#reserve(joining, pasid, hwpt);
    if (reserved !== 0) return reserved;
    const error = served?.hwpt === hwpt ? 0 : this.#serve(device.group, pasid, hwpt.domain, served?.hwpt.domain);
    if (error !== 0) {
      this.#unreserve(joining, pasid, hwpt, served?.hwpt);
      return error;
    }
    // Requests that the unit drained came through what was there.
    this.#kernel.takePageRequests();
    const now = served ?? { hwpt, devices: new Map<IommufdDevice, Attachment>() };
    const old = now.hwpt;
    now.hwpt = hwpt;
    for (const each of joining) this.#join(now, each, pasid, old);
    const ofGroup = this.#groups.get(device.group) ?? new Map<number, Served>();
    this.#groups.set(device.group, ofGroup.set(pasid, now));
    return 0;
  }

  /** Nothing serves the device at `pasid` any more: 0, also if nothing did. */
  detach(device: IommufdDevice, pasid: number): number {
    const ofGroup = this.#groups.get(device.group);
    const served = ofGroup?.get(pasid);
    const attachment = served?.devices.get(device);
    if (ofGroup === undefined || served === undefined || attachment === undefined) return 0;
    if (served.devices.size === 1) {
      const error = insist(() => this.#serve(device.group, pasid, undefined, served.hwpt.domain));
      // Whoever detaches gets no errno, as in Linux: the ledger has it. The driver lets go when the page table goes, at the latest.
      if (error !== 0) this.#kernel.note('blocked-detach', { device: device.physical.bdf, pasid, result: error });
      ofGroup.delete(pasid);
      if (ofGroup.size === 0) this.#groups.delete(device.group);
    }
    this.#kernel.takePageRequests();
    served.devices.delete(device);
    this.#unreserve([device], pasid, served.hwpt, undefined);
    this.#left(attachment);
    return 0;
  }

  state(device: IommufdDevice): unknown {
    return this.pasidsOf(device).map(pasid => ({ pasid, hwpt: this.of(device, pasid)!.hwpt.id }));
  }

  /** All PASIDs of a group and its requests without PASID must be served by tables that may go with PASIDs, or there are no PASIDs. */
  #incompatible(group: IommuGroup, pasid: number, hwpt: Hwpt): number {
    const served = this.#groups.get(group);
    if (hwpt.pasidCompatible) {
      const rid = pasid === NO_PASID ? undefined : served?.get(NO_PASID);
      return rid === undefined || rid.hwpt.pasidCompatible ? 0 : -Errno.EINVAL;
    }
    const pasids = [...(served?.keys() ?? [])].some(other => other !== NO_PASID);
    return pasid !== NO_PASID || pasids ? -Errno.EINVAL : 0;
  }

  /** What a device cannot have may not be mapped in the address space behind `hwpt`. Requests with a PASID have no such places. */
  #reserve(devices: readonly IommufdDevice[], pasid: number, hwpt: Hwpt): number {
    if (pasid !== NO_PASID) return 0;
    const { ioas } = hwpt.paging;
    for (const [index, device] of devices.entries()) {
      const known = this.of(device, pasid)?.hwpt.paging.ioas === ioas;
      const error = known ? 0 : ioas.reserve(device, this.#kernel.knobs.reservedIova);
      if (error === 0) continue;
      this.#unreserve(devices.slice(0, index), pasid, hwpt, this.of(device, pasid)?.hwpt);
      return error;
    }
    return 0;
  }

  /** They are not behind `hwpt` any more, but behind `now`. */
  #unreserve(devices: readonly IommufdDevice[], pasid: number, hwpt: Hwpt, now: Hwpt | undefined): void {
    if (pasid !== NO_PASID || hwpt.paging.ioas === now?.paging.ioas) return;
    for (const device of devices) hwpt.paging.ioas.unreserve(device);
  }

  /** For every function of the group, or for none. */
  #serve(
    group: IommuGroup,
    pasid: number,
    domain: Hwpt['domain'] | undefined,
    before: Hwpt['domain'] | undefined,
  ): number {
    const user = this.#kernel.iommu!.driver.user!;
    const done: PhysicalDevice[] = [];
    for (const device of group.devices) {
      const error = user.setDomain(device.requesterId, pasid, domain);
      if (error === 0) {
        done.push(device);
        continue;
      }
      for (const changed of done) user.setDomain(changed.requesterId, pasid, before);
      return error;
    }
    return 0;
  }

  #join(served: Served, device: IommufdDevice, pasid: number, old: Hwpt): void {
    const before = served.devices.get(device);
    served.hwpt.users++;
    served.devices.set(device, { device, hwpt: served.hwpt, pasid });
    if (before === undefined) return;
    this.#unreserve([device], pasid, old, served.hwpt);
    this.#left(before);
  }

  #left(attachment: Attachment): void {
    attachment.hwpt.faultQueue?.abandon(attachment);
    attachment.hwpt.put();
  }
}
