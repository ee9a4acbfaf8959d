import { createMachine, defineMachine, type Machine } from '@remora/machine';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { edu } from '@hw/edu/config';
import eduPlugin from '@hw/edu/plugin';
import { intelIommu, type VtdConfig } from '@hw/intel-iommu/config';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { iommuTestdev } from '@hw/iommu-testdev/config';
import iommuTestdevPlugin from '@hw/iommu-testdev/plugin';
import { q35 } from '@hw/q35/config';
import q35Plugin from '@hw/q35/plugin';

const MIB = 0x10_0000;

/** A VM of emulated devices only, to try the vIOMMU on: `-M q35 -device intel-iommu,... -device iommu-testdev -device dma-engine -device edu`. */
export function q35Testdev(iommu: Partial<VtdConfig> = {}): Machine {
  return createMachine(undefined, {
    board: q35({ memory: 128 * MIB }),
    plugins: [q35Plugin, intelIommuPlugin, iommuTestdevPlugin, dmaEnginePlugin, eduPlugin],
    devices: [intelIommu(iommu), iommuTestdev({ addr: '04.0' }), dmaEngine({ addr: '05.0' }), edu({ addr: '06.0' })],
  });
}

export const q35TestdevMachine = defineMachine({
  name: 'q35-testdev',
  description: 'emulated devices behind a vIOMMU in scalable mode, on no host',
  create: () => q35Testdev({ 'x-scalable-mode': 'on' }),
});
