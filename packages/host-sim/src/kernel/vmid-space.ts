/**
 * VMIDs: tags of nesting domains that the VMM knows by number, and that the containers of one process share (vsva.md 5). On VT-d a VMID
 * is a domain id.
 */
import { Errno } from '@remora/core';
import type { HostIommuDomain } from '@remora/iommu';
import type { VmidDefects } from './vmid-defects.js';

/** Whose VMIDs they are: a process. */
export interface VmidOwner {
  readonly name: string;
}

interface Vmid {
  readonly owner: VmidOwner;
  readonly domains: Set<HostIommuDomain>;
}

/** A VMID as dumps show it. */
export interface VmidState {
  readonly vmid: number;
  readonly owner: string;
  readonly domains: number;
}

export class VmidSpace {
  readonly #vmids = new Map<number, Vmid>();

  /**
   * Gives `domain`, to which nothing is attached yet, the tag `vmid`. -EACCES if it is another process's, -EBUSY if it is the tag of a
   * domain that has no VMID, -EINVAL if the unit has no such tag or cannot be told one; then the domain keeps what it has.
   */
  take(owner: VmidOwner, domain: HostIommuDomain, vmid: number, defects: VmidDefects): number {
    const known = this.#vmids.get(vmid);
    if (known !== undefined && known.owner !== owner && defects.unowned !== true) return -Errno.EACCES;
    const [sharing] = known?.domains ?? [];
    return domain.setTag?.(vmid, sharing) ?? -Errno.EINVAL;
  }

  /** `domain` is in use: its tag belongs to `owner` until the last of its domains is gone. */
  enter(owner: VmidOwner, domain: HostIommuDomain): void {
    const known = this.#vmids.get(domain.id);
    if (known === undefined) this.#vmids.set(domain.id, { owner, domains: new Set([domain]) });
    else known.domains.add(domain);
  }

  /** `domain` is gone; nothing happens if it had not entered. */
  leave(domain: HostIommuDomain): void {
    const known = this.#vmids.get(domain.id);
    if (known?.domains.delete(domain) === true && known.domains.size === 0) this.#vmids.delete(domain.id);
  }

  state(): VmidState[] {
    const all = [...this.#vmids].map(([vmid, { owner, domains }]) => ({
      vmid,
      owner: owner.name,
      domains: domains.size,
    }));
    return all.sort((a, b) => a.vmid - b.vmid);
  }
}
