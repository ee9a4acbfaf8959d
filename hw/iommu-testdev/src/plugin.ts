import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type IommuTestdevConfig, iommuTestdevProperties } from './config.js';
import { IommuTestdev } from './device.js';

export const iommuTestdevKind: DeviceKind<IommuTestdevConfig, 'pci'> = {
  id: 'iommu-testdev',
  bus: 'pci',
  properties: iommuTestdevProperties,
  create: context => new IommuTestdev(context),
};

export default definePlugin({
  name: '@hw/iommu-testdev',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(iommuTestdevKind);
  }),
});
