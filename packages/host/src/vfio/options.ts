import type { Ledger, Trace } from '@remora/core';
import type { VmVmid } from './vmid.js';

/**
 * Named departures from the default behaviour, each as RFC v3.1 literally did it (vsva.md 8, decisions.md). All off by default.
 */
export interface VfioQuirks {
  /** Q1: any attribute of a bind makes its flags 1. */
  readonly attributeFlags?: boolean;
  /** Q7: CACHE_INVALIDATE says argsz 104. */
  readonly flushArgsz?: boolean;
  /** Q9: a first-stage format that this client cannot speak is only logged. */
  readonly anyFormat?: boolean;
  /** Q12: a nesting container without the nesting capability is accepted, with format 0 and no PASID requests. */
  readonly missingNestingCap?: boolean;
  /** Q-PERDEV: one BIND, UNBIND and flush for each device instead of one for each container. */
  readonly perDevice?: boolean;
  /** SET_VMID comes after SET_IOMMU, as the VMID series documents it and where its kernel makes nothing of it (vsva.md 5.4). */
  readonly vmidAfterSetIommu?: boolean;
}

export interface VfioContainerOptions {
  /** For messages and the ledger: `vm0/container0`. */
  readonly name: string;
  /** The vIOMMU wants to nest: ask for VFIO_TYPE1_NESTING_IOMMU first. */
  readonly wantsNesting: boolean;
  /**
   * The VM's VMID, if the host speaks the VMID series: such a container nests, but there is nothing to bind first stages with, for GET_VMID
   * and SET_VMID have the numbers of PASID_REQUEST and BIND. Not together with `wantsNesting`.
   */
  readonly vmid?: VmVmid | undefined;
  readonly quirks?: VfioQuirks;
  readonly ledger?: Ledger | undefined;
  readonly trace?: Trace | undefined;
}
