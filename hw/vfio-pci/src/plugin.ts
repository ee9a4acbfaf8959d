import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type VfioPciConfig, vfioPciProperties } from './config.js';
import { VfioPci } from './device.js';

export const vfioPciKind: DeviceKind<VfioPciConfig, 'pci'> = {
  id: 'vfio-pci',
  bus: 'pci',
  properties: vfioPciProperties,
  after: ['iommu'],
  create: (context, config) => new VfioPci(context, config),
};

export default definePlugin({
  name: '@hw/vfio-pci',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(vfioPciKind);
  }),
});
