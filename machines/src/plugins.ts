import type { Plugin } from '@remora/core';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import dsaPlugin from '@hw/dsa/plugin';
import eduPlugin from '@hw/edu/plugin';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import iommuTestdevPlugin from '@hw/iommu-testdev/plugin';
import nvmePlugin from '@hw/nvme/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';

/** Boards and devices that come with Remora: what a state file may name. */
export const plugins: readonly Plugin[] = [
  dmaEnginePlugin,
  dsaPlugin,
  eduPlugin,
  intelIommuPlugin,
  iommuTestdevPlugin,
  nvmePlugin,
  q35Plugin,
  vfioPciPlugin,
];
