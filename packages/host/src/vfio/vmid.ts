/**
 * The VMID of a VM, for hosts of the VMID series (vsva.md 5): the host's driver chooses it when the VM's first nesting container gets its
 * IOMMU; the VMM carries it to the others, so that one number tags all that the host's IOMMU caches for the VM.
 */
import { IOMMU_VMID_INVALID, VFIO_IOMMU_GET_VMID, VFIO_IOMMU_SET_VMID, VfioContainerVmid, viewOf } from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';
import { expectOk } from './vfio-error.js';

/** What it needs of a container. */
export interface VmidHome {
  readonly name: string;
  readonly syscalls: HostSyscalls;
  readonly fd: number;
}

export class VmVmid {
  #number = IOMMU_VMID_INVALID;
  #users = 0;

  /** IOMMU_VMID_INVALID while the VM has none. */
  get number(): number {
    return this.#number;
  }

  /** SET_VMID, if the VM has one: its kernel uses what it was told before SET_IOMMU. @throws VfioError if it refuses. */
  bring({ name, syscalls, fd }: VmidHome): void {
    if (this.#number === IOMMU_VMID_INVALID) return;
    expectOk(`${name}: VFIO_IOMMU_SET_VMID`, syscalls.ioctl(fd, VFIO_IOMMU_SET_VMID, this.#number));
  }

  /** GET_VMID, if the VM has none, after SET_IOMMU. @throws VfioError if the host refuses. */
  fetch({ name, syscalls, fd }: VmidHome): void {
    if (this.#number !== IOMMU_VMID_INVALID) return;
    const bytes = VfioContainerVmid.encode({});
    expectOk(`${name}: VFIO_IOMMU_GET_VMID`, syscalls.ioctl(fd, VFIO_IOMMU_GET_VMID, bytes));
    this.#number = VfioContainerVmid.fields.vmid.get(viewOf(bytes));
  }

  /** A container has it. */
  hold(): void {
    this.#users++;
  }

  /** A container has it no more. With the last one the host may give the number to another VM: this one forgets it. */
  drop(): void {
    this.#users--;
    this.forgetUnused();
  }

  /** What a container fetched that did not come about. */
  forgetUnused(): void {
    if (this.#users === 0) this.#number = IOMMU_VMID_INVALID;
  }
}
