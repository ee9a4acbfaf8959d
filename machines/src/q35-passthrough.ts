import { assembleOn, createMachine, defineMachine, type Host, type Machine } from '@remora/machine';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { ENGINE, lendingHost } from './lending-host.js';

/** A VM with a device of the host and no vIOMMU: `-M q35 -m 64M -device vfio-pci,host=3f:00.0,addr=03.0`. */
export function q35Passthrough(host: Host): Machine {
  return createMachine(host, {
    board: 'q35,memory=64M',
    plugins: [q35Plugin, vfioPciPlugin],
    devices: [`vfio-pci,host=${ENGINE},addr=03.0`],
  });
}

export const q35PassthroughMachine = defineMachine({
  name: 'q35-passthrough',
  description: "a host's DMA engine in a guest without a vIOMMU: all of guest RAM is mapped",
  create: ({ seed }) => assembleOn(lendingHost({ seed }), q35Passthrough),
});
