import { definePlugin } from '@remora/core';
import { type DeviceKind, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { type DmaEngineConfig, dmaEngineProperties } from './config.js';
import { DmaEngine } from './device.js';

export const dmaEngineKind: DeviceKind<DmaEngineConfig, 'pci'> = {
  id: 'dma-engine',
  bus: 'pci',
  properties: dmaEngineProperties,
  create: (context, config) => new DmaEngine(context, config),
};

export default definePlugin({
  name: '@hw/dma-engine',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(DeviceKinds).toConstantValue(dmaEngineKind);
  }),
});
