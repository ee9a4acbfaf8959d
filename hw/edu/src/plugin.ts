import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type EduConfig, eduProperties } from './config.js';
import { Edu } from './device.js';

export const eduKind: DeviceKind<EduConfig, 'pci'> = {
  id: 'edu',
  bus: 'pci',
  properties: eduProperties,
  create: (context, config) => new Edu(context, config),
};

export default definePlugin({
  name: '@hw/edu',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(eduKind);
  }),
});
