import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type DsaConfig, dsaProperties } from './config.js';
import { Dsa } from './device/device.js';

export const dsaKind: DeviceKind<DsaConfig, 'pci'> = {
  id: 'dsa',
  bus: 'pci',
  properties: dsaProperties,
  create: (context, config) => new Dsa(context, config),
};

export default definePlugin({
  name: '@hw/dsa',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(dsaKind);
  }),
});
