/**
 * The VMID of a container of the VMID series: what GET_VMID tells and SET_VMID changes, and how it gets to the container's domain, or comes
 * from there (vsva.md 5.2, B02 to B07).
 */
import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import type { HostIommuDomain } from '@remora/iommu';
import { IOMMU_VMID_INVALID, VfioContainerVmid } from '@remora/uapi';
import type { Kernel } from './kernel.js';
import { userBytes } from './user.js';
import type { VmidDefects } from './vmid-defects.js';
import type { VmidOwner } from './vmid-space.js';

export class ContainerVmid {
  readonly #kernel: Kernel;
  readonly #owner: VmidOwner;
  #number = IOMMU_VMID_INVALID;
  /** The number is the one that the host chose: it is nobody's when the domain is gone. */
  #chosenByHost = false;
  /** The domain took it. */
  #given = false;

  constructor(kernel: Kernel, owner: VmidOwner) {
    this.#kernel = kernel;
    this.#owner = owner;
  }

  get number(): number {
    return this.#number;
  }

  /** GET_VMID, which works at any time. */
  tell(argument: IoctlArgument): number {
    const view = userBytes(argument, VfioContainerVmid.size);
    if (typeof view === 'number') return view;
    VfioContainerVmid.fields.vmid.set(view, this.#number);
    return 0;
  }

  /**
   * SET_VMID: the argument itself is the number. It changes the container's number and nothing else; whether the unit has such a tag, and
   * whose it is, shows when SET_IOMMU gives it to the domain.
   */
  set(vmid: number | undefined): number {
    if (vmid === undefined || vmid < 0 || vmid >= IOMMU_VMID_INVALID) return -Errno.EINVAL;
    if (vmid === 0 && this.#defects.zeroIsUnset !== true) return -Errno.EINVAL;
    this.#number = vmid;
    this.#chosenByHost = false;
    return 0;
  }

  /** Before the first group is attached: the number becomes the domain's tag, if there is one. */
  give(domain: HostIommuDomain): number {
    const vmid = this.#defects.truncated === true ? this.#number & 0xffff : this.#number;
    this.#given = false;
    if (this.#number === IOMMU_VMID_INVALID || vmid === 0) return 0;
    const result = this.#kernel.vmids.take(this.#owner, domain, vmid, this.#defects);
    this.#given = result === 0;
    this.#kernel.note('set-vmid', { owner: this.#owner.name, vmid, result });
    return result;
  }

  /** Whether the kernel gets over a domain that was not attached. */
  survives(): boolean {
    if (!this.#given || this.#defects.diesUnattached !== true) return true;
    this.#kernel.note('oops', { owner: this.#owner.name, vmid: this.#number });
    return false;
  }

  /** After all groups are attached: the domain's tag becomes the number, if there is none. */
  fetch(domain: HostIommuDomain): number {
    if (this.#number === IOMMU_VMID_INVALID) {
      if (this.#defects.getAfterAttach === true) return -Errno.EPERM;
      this.#number = domain.id;
      this.#chosenByHost = true;
    }
    this.#kernel.vmids.enter(this.#owner, domain);
    return 0;
  }

  /** The container has no domain any more. */
  leave(domain: HostIommuDomain): void {
    this.#kernel.vmids.leave(domain);
    if (!this.#chosenByHost) return;
    this.#number = IOMMU_VMID_INVALID;
    this.#chosenByHost = false;
  }

  get #defects(): VmidDefects {
    return this.#kernel.knobs.vmidDefects;
  }
}
