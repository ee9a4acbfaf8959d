import type { SimulatedHost, SimulatedHostOptions } from '@remora/host-sim';
import { createHost, type Host } from '@remora/machine';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { physicalVtd } from './physical-vtd.js';

const MIB = 0x10_0000;

/** Engines that the host lends, each in an IOMMU group of its own. */
export const ENGINE = '0000:3f:00.0';
export const SECOND_ENGINE = '0000:3f:01.0';

/** A host with two DMA engines behind a VT-d unit that nests. */
export function lendingHost(options: Omit<SimulatedHostOptions, 'devices'> = {}): Host<SimulatedHost> {
  return createHost({
    memory: 256 * MIB,
    iommu: physicalVtd(),
    ...options,
    plugins: [dmaEnginePlugin],
    devices: [dmaEngine({ addr: ENGINE }), dmaEngine({ addr: SECOND_ENGINE })],
  });
}
