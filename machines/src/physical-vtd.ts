import { Region } from '@remora/core';
import type { HostIommuFactory, PhysicalIommu } from '@remora/host-sim';
import { PasidEntry, VTD_BASE, VtdAddressSpaces, VtdUnit } from '@hw/intel-iommu';
import { vtdConfig, type VtdConfig } from '@hw/intel-iommu/config';
import { MemoryMappedRegisters, VtdHostDriver } from '@hw/intel-iommu/driver';

/** What state files call it. */
export const PHYSICAL_VTD = 'vtd';

/** A physical unit whose model can be looked at. */
export interface PhysicalVtd extends PhysicalIommu {
  readonly unit: VtdUnit;
}

/**
 * A host's physical VT-d unit, which nests, and the kernel's driver for it: the same model and the same driver that a guest has,
 * reached only through registers, queue and tables in host memory. `options` are intel-iommu's; `make` makes the unit.
 */
export function physicalVtd(
  options: Partial<VtdConfig> = {},
  make = (...parameters: ConstructorParameters<typeof VtdUnit>): VtdUnit => new VtdUnit(...parameters),
): HostIommuFactory {
  const create: HostIommuFactory = ({
    addressSpace,
    pages,
    ledger,
    trace,
    clock,
    functionAt,
    mapMmio,
    sendMsi,
    faultMessage,
    pageRequestMessage,
  }): PhysicalVtd => {
    const name = 'host/vtd';
    const config = vtdConfig({ nesting: true, ...options }, 'iommu');
    const unit: VtdUnit = make(config, {
      name,
      memory: addressSpace,
      ledger,
      trace,
      clock,
      sendMsi,
      endpoint: requesterId => spaces.endpoint(requesterId),
    });
    const spaces: VtdAddressSpaces = new VtdAddressSpaces(unit, addressSpace, { name, ledger, functionAt });
    mapMmio(VTD_BASE, Region.mmio(`${name}-registers`, unit.mmioBytes, unit.mmio));
    const registers = new MemoryMappedRegisters(addressSpace, VTD_BASE);
    const driver = new VtdHostDriver(registers, addressSpace, pages, {
      faults: faultMessage,
      pageRequests: pageRequestMessage,
      hasAts: requesterId => functionAt(requesterId)?.atsCapability !== undefined,
      enableAts: (requesterId, on) => functionAt(requesterId)?.atsCapability?.enable(on),
      hasPri: requesterId => functionAt(requesterId)?.priCapability !== undefined,
      enablePri: (requesterId, on) => functionAt(requesterId)?.priCapability?.enable(on),
      programmed: (requesterId, pasid, words) => {
        const entry = words === undefined ? 'not present' : PasidEntry.format(words);
        if (ledger.on) ledger.add(name, 'pasid-entry', { requesterId, pasid, entry });
      },
    });
    return { unit, driver, pci: spaces, describe: () => driver.describe(), inspect: into => unit.inspect(into) };
  };
  return Object.assign(create, { model: PHYSICAL_VTD, options });
}
