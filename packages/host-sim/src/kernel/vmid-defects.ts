/**
 * What the VMID series literally did where it meant something else: defects by their number in vsva.md 5.5. All off by default.
 *
 * The others need what this host does not have: 5, 6 and 9 a mediated device with a command queue, and the half of 4 in which two physical
 * IOMMUs give one number to two VMs a second IOMMU. 8 is the choice between two uAPIs.
 */
export interface VmidDefects {
  /** 1, Q19: the driver does not tell the VMID of a domain that is in use. Nesting works only for who brings one: SET_IOMMU is EPERM. */
  readonly getAfterAttach?: boolean;
  /** 2: SET_VMID takes 0, and the driver, for whom 0 is none, chooses another. */
  readonly zeroIsUnset?: boolean;
  /** 3: no VMID is too large; what exceeds 16 bits is cut off where the domain takes it. */
  readonly truncated?: boolean;
  /** 4: nobody asks whose VMID it is. Two VMs that have the same one read each other's cached translations. */
  readonly unowned?: boolean;
  /** 7: the kernel dies of a domain that was given a VMID and could not be attached: whatever belonged to it stays. */
  readonly diesUnattached?: boolean;
}
