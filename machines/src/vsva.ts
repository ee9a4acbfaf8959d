import {
  assembleOn,
  createMachine,
  defineMachine,
  iommufd,
  type MachineOptions,
  type Host,
  type Machine,
} from '@remora/machine';
import { intelIommu } from '@hw/intel-iommu/config';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { q35 } from '@hw/q35/config';
import q35Plugin from '@hw/q35/plugin';
import { vfioPci } from '@hw/vfio-pci/config';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { ENGINE, lendingHost } from './lending-host.js';
import { vsvaGuest } from './vsva-steps.js';

const MIB = 0x10_0000;

/**
 * A VM whose guest shares its virtual addresses with a device of the host, as RFC v3.1 has it:
 * `-M q35 -m 64M -device intel-iommu,x-scalable-mode=modern -device vfio-pci,host=3f:00.0,addr=03.0`.
 */
export function vsvaMachine(host: Host, options: Partial<MachineOptions> = {}): Machine {
  return createMachine(host, {
    board: q35({ memory: 64 * MIB }),
    devices: [intelIommu({ 'x-scalable-mode': 'modern' }), vfioPci({ host: ENGINE, addr: '03.0' })],
    ...options,
    plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin, ...(options.plugins ?? [])],
  });
}

/**
 * The same VM, which opens the device through iommufd:
 * `-object iommufd,id=iommufd0 -device vfio-pci,host=3f:00.0,addr=03.0,iommufd=iommufd0`.
 */
export function vsvaIommufdMachine(host: Host, options: Partial<MachineOptions> = {}): Machine {
  return vsvaMachine(host, {
    objects: [iommufd({ id: 'iommufd0' })],
    devices: [
      intelIommu({ 'x-scalable-mode': 'modern' }),
      vfioPci({ host: ENGINE, addr: '03.0', iommufd: 'iommufd0' }),
    ],
    ...options,
  });
}

export const vsva = defineMachine({
  name: 'vsva',
  description: "a guest binds its page tables to a host's DMA engine (nested translation, RFC v3.1)",
  create: ({ seed }) => assembleOn(lendingHost({ seed }), host => vsvaMachine(host)),
  guest: vsvaGuest,
  settled: 'copy-again',
  replays: true,
});

export const vsvaIommufd = defineMachine({
  name: 'vsva-iommufd',
  description: 'the same guest on a host of today: nested page tables of iommufd',
  create: ({ seed }) => assembleOn(lendingHost({ seed }), host => vsvaIommufdMachine(host)),
  guest: vsvaGuest,
  settled: 'copy-again',
});
