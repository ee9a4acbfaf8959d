import type { Ledger, Trace } from '@remora/core';

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
}

export interface VfioContainerOptions {
  /** For messages and the ledger: `vm0/container0`. */
  readonly name: string;
  /** The vIOMMU wants to nest: ask for VFIO_TYPE1_NESTING_IOMMU first. */
  readonly wantsNesting: boolean;
  readonly quirks?: VfioQuirks;
  readonly ledger?: Ledger | undefined;
  readonly trace?: Trace | undefined;
}
