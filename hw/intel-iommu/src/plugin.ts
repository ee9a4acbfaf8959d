import { definePlugin, type Plugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type VtdConfig, vtdProperties } from './config/index.js';
import { IntelIommu, type UnitFactory } from './device/intel-iommu.js';
import { VTD_EVENTS } from './device/trace-events.js';

export const intelIommuKind: DeviceKind<VtdConfig, 'system'> = kindWith();

export default pluginWith(intelIommuKind);

/** `intel-iommu` with units of one's own making. */
export function intelIommuWith(makeUnit: UnitFactory): Plugin {
  return pluginWith(kindWith(makeUnit));
}

function kindWith(makeUnit?: UnitFactory): DeviceKind<VtdConfig, 'system'> {
  return {
    id: 'intel-iommu',
    bus: 'system',
    properties: vtdProperties,
    provides: ['iommu'],
    traceEvents: Object.keys(VTD_EVENTS),
    create: (context, config) => new IntelIommu(context, config, makeUnit),
  };
}

function pluginWith(kind: DeviceKind<VtdConfig, 'system'>): Plugin {
  return definePlugin({
    name: '@hw/intel-iommu',
    api: 1,
    module: new ContainerModule(({ bind }) => {
      bind(DeviceKinds).toConstantValue(kind);
    }),
  });
}
