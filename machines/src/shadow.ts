import {
  assembleOn,
  createMachine,
  defineMachine,
  type Host,
  type Machine,
  type MachineOptions,
} from '@remora/machine';
import type { SimulatedHost, SimulatedHostOptions } from '@remora/host-sim';
import { intelIommu } from '@hw/intel-iommu/config';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { q35 } from '@hw/q35/config';
import q35Plugin from '@hw/q35/plugin';
import { vfioPci } from '@hw/vfio-pci/config';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { ENGINE, lendingHost } from './lending-host.js';
import { shadowGuest } from './shadow-steps.js';

const MIB = 0x10_0000;

/** A host with two DMA engines, whose kernel offers no nesting. */
export function plainHost({ kernel, ...options }: Omit<SimulatedHostOptions, 'devices'> = {}): Host<SimulatedHost> {
  return lendingHost({ ...options, kernel: { nestingType: false, ...kernel } });
}

/**
 * A VM whose guest maps memory for a device of the host, which follows the guest's tables:
 * `-M q35 -m 64M -device intel-iommu,caching-mode=on -device vfio-pci,host=3f:00.0,addr=03.0`.
 */
export function shadowMachine(host: Host, options: Partial<MachineOptions> = {}): Machine {
  return createMachine(host, {
    board: q35({ memory: 64 * MIB }),
    devices: [intelIommu({ 'caching-mode': true }), vfioPci({ host: ENGINE, addr: '03.0' })],
    ...options,
    plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin, ...(options.plugins ?? [])],
  });
}

export const shadow = defineMachine({
  name: 'shadow',
  description: "a guest's tables, followed by a host that does not nest (caching mode, MAP_DMA)",
  create: ({ seed }) => assembleOn(plainHost({ seed }), host => shadowMachine(host)),
  guest: shadowGuest,
  settled: 'copy-again',
});
