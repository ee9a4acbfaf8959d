import { definePlugin } from '@remora/core';
import { type BoardKind, BoardKinds, bridgeKinds, DeviceKinds } from '@remora/pci';
import { ContainerModule } from 'inversify';
import { Q35 } from './board.js';
import { type Q35Config, q35Properties } from './config.js';

export const q35Kind: BoardKind<Q35Config> = {
  id: 'q35',
  properties: q35Properties,
  ramBytes: config => config.memory,
  create: (services, config) => new Q35(services, config),
};

/** The board, and the bridges that fit into it. */
export default definePlugin({
  name: '@hw/q35',
  api: 1,
  module: new ContainerModule(({ bind }) => {
    bind(BoardKinds).toConstantValue(q35Kind);
    for (const kind of bridgeKinds) bind(DeviceKinds).toConstantValue(kind);
  }),
});
