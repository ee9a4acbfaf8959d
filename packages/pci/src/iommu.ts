/**
 * How an IOMMU and a host meet a PCI function: an IOMMU registers per bus (pci_setup_iommu), a host per device [A05], and the
 * IOMMU looks the host's context up [A09].
 */
import type { AddressSpace } from '@remora/core';
import type { AtsCompletion, AtsStatus, HostIOMMUContext, PageRequest, RemappedInterrupt } from '@remora/iommu';
import type { PciBus } from './bus.js';
import type { PciFunction } from './function.js';

/** What firmware tables say of a unit. */
export interface IommuFacts {
  /** Where its registers are. */
  readonly registerBase: number;
  /** Width of addresses on the host bus, in bits: the DMAR table's HAW. */
  readonly hostAddressWidth: number;
  readonly interruptRemapping: boolean;
  /** Whether it answers ATS requests. */
  readonly deviceTlb: boolean;
}

/** What a vIOMMU, or a host's physical unit, gives to a bus. */
export interface PciIommuOps {
  /**
   * The DMA address space of the function at `devfn` of `bus`, which may stand for others (see aliasRequesterId). The same object for
   * the same place, whatever the bus number is.
   */
  addressSpaceFor(bus: PciBus, devfn: number): AddressSpace;
  /**
   * What a host must map for that function, when it cannot nest, so that its DMA reaches what `addressSpaceFor` would: system memory
   * while the function is not translated, what the unit translates to while it is. A vfio container's map follows this space.
   * Absent if it is the DMA address space itself.
   */
  mapSpaceFor?(bus: PciBus, devfn: number): AddressSpace;
  /** Whether hosts should nest the guest's first stage: vfio asks for VFIO_TYPE1_NESTING_IOMMU only then. */
  readonly wantsNesting: boolean;
  /** Called when a host's context appears behind a function. */
  hostContextSet?(bus: PciBus, devfn: number, context: HostIOMMUContext): void;
  /** Called before that context vanishes. */
  hostContextUnset?(bus: PciBus, devfn: number): void;
  /**
   * What becomes of the DWORD `data` that a requester writes to `(hi, lo)` in the interrupt range. Fills `out` and returns true, or
   * returns false: the interrupt is blocked, and the unit has recorded why. Absent if interrupts are not remapped. A unit's own
   * messages do not come here.
   */
  remapInterrupt?(requesterId: number, hi: number, lo: number, data: number, out: RemappedInterrupt): boolean;
  /**
   * A translation request (ATS, AT = 1) for `access`: Access bits; one without WRITE does not need it (NW). OK fills `out`. Absent if the
   * unit serves no device TLBs.
   */
  translationRequest?(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: AtsCompletion,
  ): AtsStatus;
  /** Whether a translated request (AT = 2) may go to system memory as it is. Absent: none may. */
  translatedRequest?(requesterId: number, pasid: number, hi: number, lo: number, access: number): AtsStatus;
  /**
   * Takes a page request. Returns true if a response will follow or none is due; false if the unit refuses it, and the device must do as
   * if INVALID_REQUEST had been answered. Absent: all are refused.
   */
  pageRequest?(request: PageRequest): boolean;
  readonly facts?: IommuFacts | undefined;
}

/** A function's host side: how to find its context [A05]. */
export type HostContextOf = (fn: PciFunction) => HostIOMMUContext | undefined;

/**
 * Puts the functions on `bus` and below it behind `ops`, except those below a bus with ops of its own. Contexts that hosts
 * registered before are announced now, so that the order of devices does not matter.
 * @throws Error if the bus has an IOMMU.
 */
export function pciSetupIommu(bus: PciBus, ops: PciIommuOps): Disposable {
  if (bus.iommu !== undefined) throw new Error(`${bus.name} has an IOMMU`);
  bus.iommu = ops;
  for (const fn of bus.walk()) {
    if (pciIommuOf(fn) !== ops) continue;
    const context = pciDeviceHostIommuContext(fn);
    if (context !== undefined) ops.hostContextSet?.(fn.bus!, fn.devfn, context);
  }
  return {
    [Symbol.dispose]: () => {
      if (bus.iommu === ops) bus.iommu = undefined;
    },
  };
}

/** The IOMMU of `fn`: that of the nearest bus, its own first. */
export function pciIommuOf(fn: PciFunction): PciIommuOps | undefined {
  for (let bus = fn.bus; bus !== undefined; bus = bus.parent?.bus) {
    if (bus.iommu !== undefined) return bus.iommu;
  }
  return undefined;
}

/** pci_device_setup_iommu [A05]: a host stands behind `fn`. The last writer wins. */
export function pciDeviceSetupIommu(fn: PciFunction, context: HostContextOf): void {
  pciDeviceUnsetIommu(fn);
  fn.hostContextOf = context;
  const found = context(fn);
  if (found !== undefined && fn.bus !== undefined) pciIommuOf(fn)?.hostContextSet?.(fn.bus, fn.devfn, found);
}

/** pci_device_unset_iommu [A05]. The IOMMU is told first, while the context is still there. */
export function pciDeviceUnsetIommu(fn: PciFunction): void {
  if (fn.hostContextOf === undefined) return;
  if (fn.bus !== undefined) pciIommuOf(fn)?.hostContextUnset?.(fn.bus, fn.devfn);
  fn.hostContextOf = undefined;
}

/** pci_device_host_iommu_context [A09]: undefined for an empty slot, for a function without a host, and if the host has none. */
export function pciDeviceHostIommuContext(fn: PciFunction | undefined): HostIOMMUContext | undefined {
  return fn?.hostContextOf?.(fn);
}
