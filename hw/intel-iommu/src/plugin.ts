import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type VtdConfig, vtdProperties } from './config/index.js';
import { IntelIommu } from './device/intel-iommu.js';
import { VTD_EVENTS } from './device/trace-events.js';

export const intelIommuKind: DeviceKind<VtdConfig, 'system'> = {
  id: 'intel-iommu',
  bus: 'system',
  properties: vtdProperties,
  provides: ['iommu'],
  traceEvents: Object.keys(VTD_EVENTS),
  create: (context, config) => new IntelIommu(context, config),
};

export default definePlugin({
  name: '@hw/intel-iommu',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(intelIommuKind);
  }),
});
