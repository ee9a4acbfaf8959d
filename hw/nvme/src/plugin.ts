import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type NvmeConfig, nvmeProperties } from './config.js';
import { Nvme } from './device/device.js';

export const nvmeKind: DeviceKind<NvmeConfig, 'pci'> = {
  id: 'nvme',
  bus: 'pci',
  properties: nvmeProperties,
  create: (context, config) => new Nvme(context, config),
};

export default definePlugin({
  name: '@hw/nvme',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(nvmeKind);
  }),
});
