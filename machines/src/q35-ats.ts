import { createMachine, defineMachine, type Machine } from '@remora/machine';
import { dmaEngine, type DmaEngineConfig } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { intelIommu, type VtdConfig } from '@hw/intel-iommu/config';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { q35 } from '@hw/q35/config';
import q35Plugin from '@hw/q35/plugin';

const MIB = 0x10_0000;

export interface Q35AtsOptions {
  /** Further options of intel-iommu. */
  readonly iommu?: Partial<VtdConfig>;
  /** Further options of the engine. */
  readonly engine?: Partial<DmaEngineConfig>;
}

/**
 * A VM whose vIOMMU serves device TLBs and takes page requests, and a device that has both:
 * `-device intel-iommu,x-scalable-mode=on,x-flts=on,device-iotlb=on,svm=on,pasid-bits=8 -device dma-engine,id=engine,addr=05.0,ats=on,pri=on`.
 */
export function q35Ats({ iommu, engine }: Q35AtsOptions = {}): Machine {
  return createMachine(undefined, {
    board: q35({ memory: 16 * MIB }),
    plugins: [q35Plugin, intelIommuPlugin, dmaEnginePlugin],
    devices: [
      intelIommu({
        'x-scalable-mode': 'on',
        'x-flts': true,
        'device-iotlb': true,
        svm: true,
        'pasid-bits': 8,
        ...iommu,
      }),
      dmaEngine({ id: 'engine', addr: '05.0', ats: true, pri: true, ...engine }),
    ],
  });
}

export const q35AtsMachine = defineMachine({
  name: 'q35-ats',
  description: 'an emulated device with ATS and page requests behind a vIOMMU, on no host',
  create: () => q35Ats(),
});
