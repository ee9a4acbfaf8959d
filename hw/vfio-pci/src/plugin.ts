import { definePlugin } from '@remora/core';
import { VFIO_HOST_EVENTS } from '@remora/host';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type VfioPciConfig, vfioPciProperties } from './config.js';
import { VfioPci } from './device.js';
import { VFIO_PCI_EVENTS } from './trace-events.js';

export const vfioPciKind: DeviceKind<VfioPciConfig, 'pci'> = {
  id: 'vfio-pci',
  bus: 'pci',
  properties: vfioPciProperties,
  after: ['iommu'],
  traceEvents: [...Object.keys(VFIO_PCI_EVENTS), ...Object.keys(VFIO_HOST_EVENTS)],
  create: (context, config) => new VfioPci(context, config),
};

export default definePlugin({
  name: '@hw/vfio-pci',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(vfioPciKind);
  }),
});
