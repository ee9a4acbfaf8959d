/**
 * The first stages that a container has bound, on each of its devices. Every call is repeated for each device; if one of them
 * refuses, the others are taken back, so that the state before the call is in force again.
 */
import { Errno } from '@remora/core';
import { type HostIommuDomain, sameStage1, type Stage1Config, type Stage1Flush } from '@remora/iommu';
import type { PhysicalDevice } from '../devices/physical-device.js';
import { insist } from './insist.js';
import type { PasidSpace } from './pasid-space.js';

/** What a guest's PASID needs: the device must take all 20 bits (vsva.md 3.13). */
const FULL_PASID_BITS = 20;

interface Binding {
  readonly config: Stage1Config;
  readonly on: Set<PhysicalDevice>;
}

/** A binding as dumps show it. */
export interface BindingState {
  readonly pasid: number;
  readonly devices: readonly string[];
  readonly rootHi: number;
  readonly rootLo: number;
  readonly addressWidth: number;
}

export class Stage1Bindings {
  readonly #domain: HostIommuDomain;
  readonly #pasids: PasidSpace;
  readonly #bindings = new Map<number, Binding>();

  constructor(domain: HostIommuDomain, pasids: PasidSpace) {
    this.#domain = domain;
    this.#pasids = pasids;
  }

  get bound(): readonly number[] {
    return [...this.#bindings.keys()];
  }

  /**
   * Binds on each of `devices` that does not have it. Again with equal data: 0, and no second user. With other data: -EBUSY.
   * -EINVAL if a device cannot have PASIDs of 20 bits.
   */
  bind(devices: readonly PhysicalDevice[], pasid: number, config: Stage1Config): number {
    const known = this.#bindings.get(pasid);
    if (known !== undefined && !sameStage1(known.config, config)) return -Errno.EBUSY;
    if (devices.length === 0 || devices.some(device => device.pasidBits < FULL_PASID_BITS)) return -Errno.EINVAL;
    const done: PhysicalDevice[] = [];
    for (const device of devices) {
      if (known?.on.has(device) === true) continue;
      const error = this.#domain.bindPasid(device.requesterId, pasid, config);
      if (error !== 0) {
        for (const bound of done.reverse()) this.#domain.unbindPasid(bound.requesterId, pasid);
        return error;
      }
      done.push(device);
    }
    if (known === undefined) {
      this.#bindings.set(pasid, { config, on: new Set(done) });
      this.#pasids.countBinding(pasid, 1);
    } else {
      for (const device of done) known.on.add(device);
    }
    return 0;
  }

  /** -EINVAL if it is not bound. */
  unbind(pasid: number): number {
    const known = this.#bindings.get(pasid);
    if (known === undefined) return -Errno.EINVAL;
    const done: PhysicalDevice[] = [];
    for (const device of known.on) {
      const error = this.#domain.unbindPasid(device.requesterId, pasid);
      if (error !== 0) {
        // A device that cannot be bound again has lost the binding; the others keep it.
        for (const other of done) {
          if (this.#domain.bindPasid(other.requesterId, pasid, known.config) !== 0) known.on.delete(other);
        }
        return error;
      }
      done.push(device);
    }
    this.#forget(pasid);
    return 0;
  }

  /** -EINVAL if its PASID is not bound. Every device is flushed, even after one that failed; the first error is the result. */
  flush(flush: Stage1Flush): number {
    const known = this.#bindings.get(flush.pasid);
    if (known === undefined) return -Errno.EINVAL;
    let result = 0;
    for (const device of known.on) {
      const error = this.#domain.flushStage1(device.requesterId, flush);
      if (result === 0) result = error;
    }
    return result;
  }

  /** Takes all bindings off a device that leaves the container. */
  removeDevice(device: PhysicalDevice): void {
    for (const [pasid, binding] of [...this.#bindings]) {
      if (!binding.on.delete(device)) continue;
      insist(() => this.#domain.unbindPasid(device.requesterId, pasid));
      if (binding.on.size === 0) this.#forget(pasid);
    }
  }

  state(): BindingState[] {
    const all = [...this.#bindings].map(([pasid, { config, on }]) => ({
      pasid,
      devices: [...on].map(device => device.bdf),
      rootHi: config.rootHi,
      rootLo: config.rootLo,
      addressWidth: config.addressWidth,
    }));
    return all.sort((a, b) => a.pasid - b.pasid);
  }

  #forget(pasid: number): void {
    this.#bindings.delete(pasid);
    this.#pasids.countBinding(pasid, -1);
  }
}
