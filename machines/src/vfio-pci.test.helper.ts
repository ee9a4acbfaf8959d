/** What the tests of vfio-pci share: machines on a host, and what the host holds for them. */
import { type ExecutionContext } from 'ava';
import { type Ledger } from '@remora/core';
import type { SimulatedHost } from '@remora/host-sim';
import { createMachine, type Host, type Machine, type MachineOptions } from '@remora/machine';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';

export const MIB = 0x10_0000;
export const BAR = 0xe000_0000;
export const RAM_PAGES = (8 * MIB) / 4096;

export function own<D extends Disposable>(t: ExecutionContext, resource: D): D {
  t.teardown(() => resource[Symbol.dispose]());
  return resource;
}

export function machineOn(host: Host, devices: readonly string[], options: Partial<MachineOptions> = {}): Machine {
  const plugins = [q35Plugin, intelIommuPlugin, vfioPciPlugin];
  return createMachine(host, { board: 'q35,memory=8M', plugins, devices, ...options });
}

export function startedOn(host: Host, ...devices: string[]): Machine {
  const machine = machineOn(host, devices);
  machine.start();
  return machine;
}

/** Pages in each second-stage domain that a device of the host is in, by requester id. */
export function mappedPages(host: SimulatedHost): Record<string, number> {
  const { domains, functions } = host.dump()['iommu'] as {
    domains: { id: number; pages: number }[];
    functions: { requesterId: number; domain: number }[];
  };
  const pages = (id: number): number => domains.find(domain => domain.id === id)!.pages;
  return Object.fromEntries(functions.map(({ requesterId, domain }) => [requesterId.toString(16), pages(domain)]));
}

export function ioctls(ledger: Ledger, number: number): number {
  return ledger.events.filter(({ kind, data }) => kind === 'ioctl' && data['number'] === number).length;
}
