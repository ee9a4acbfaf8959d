/** The ways in which a host lends a device to a guest, each as a host and as the options that choose it. */
import type { HostSyscalls } from '@remora/host';
import type { FailureInjector, KernelKnobs, SimulatedHost } from '@remora/host-sim';
import { createHost, createMachine, type Host, iommufd, type Machine, type MachineOptions } from '@remora/machine';
import { dmaEngine } from '@hw/dma-engine/config';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { intelIommu, type VtdConfig } from '@hw/intel-iommu/config';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { q35 } from '@hw/q35/config';
import q35Plugin from '@hw/q35/plugin';
import { vfioPci } from '@hw/vfio-pci/config';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { ENGINE, SECOND_ENGINE } from '../lending-host.js';
import { physicalVtd } from '../physical-vtd.js';

const MIB = 0x10_0000;
/** Of the object that names the host's /dev/iommu. */
const IOMMUFD = 'iommufd0';
/** Of the device that is lent, and where the guest has it. */
export const LENT = 'lent';
export const LENT_AT = '03.0';

export interface BackEnd {
  /** A word, for command lines and titles: `vfio-nesting`. */
  readonly name: string;
  /** One line for people. */
  readonly title: string;
  readonly kernel: Partial<KernelKnobs>;
  /** The device is opened through iommufd. */
  readonly iommufd: boolean;
  /** The host walks the guest's first stages; otherwise it follows what the guest maps. */
  readonly nests: boolean;
  /** Page requests of the device reach the guest. */
  readonly pageRequests: boolean;
  /** Address on the host of the dma-engine that is lent; default: that of hostOf's. */
  readonly device?: string;
}

/** Any host that can lend an engine: a simulated one, or the system calls of Linux. */
export type LendingHost = Host | HostSyscalls;

/** Whatever a guest adds to its tables, it tells the unit: hosts follow second stages so, and learn of first ones. */
const CACHING: Partial<VtdConfig> = { 'caching-mode': true };
/** The host walks first stages that are bound to PASIDs; it learns of them as of anything else that is new. */
const MODERN: Partial<VtdConfig> = { ...CACHING, 'x-scalable-mode': 'modern', 'device-iotlb': true, svm: true };

export const backEnds: readonly BackEnd[] = [
  {
    name: 'vfio-nesting',
    title: 'VFIO type 1 with nesting, RFC v3.1',
    kernel: {},
    iommufd: false,
    nests: true,
    pageRequests: false,
  },
  {
    name: 'vfio-type1v2',
    title: 'VFIO type 1 version 2, shadow mapping',
    kernel: { nestingType: false },
    iommufd: false,
    nests: false,
    pageRequests: false,
  },
  {
    name: 'vfio-compat',
    title: 'VFIO containers of iommufd, shadow mapping',
    kernel: { vfioContainer: 'iommufd' },
    iommufd: false,
    nests: false,
    pageRequests: false,
  },
  {
    name: 'iommufd',
    title: 'iommufd, shadow mapping',
    kernel: {},
    iommufd: true,
    nests: false,
    pageRequests: false,
  },
  {
    name: 'iommufd-nested',
    title: 'iommufd with nested page tables',
    kernel: {},
    iommufd: true,
    nests: true,
    pageRequests: true,
  },
];

export interface HostExtras {
  readonly failures?: FailureInjector;
  /** Makes the physical unit. */
  readonly unit?: Parameters<typeof physicalVtd>[1];
}

/** A host with two DMA engines behind a VT-d unit that nests. The first, which is lent, has a device TLB and asks for pages. */
export function hostOf({ kernel }: BackEnd, seed = 1, { failures, unit }: HostExtras = {}): Host<SimulatedHost> {
  return createHost({
    ...(failures === undefined ? {} : { failures }),
    seed,
    memory: 64 * MIB,
    kernel,
    iommu: physicalVtd({ 'device-iotlb': true, svm: true }, unit),
    plugins: [dmaEnginePlugin],
    devices: [dmaEngine({ addr: ENGINE, ats: true, pri: true }), dmaEngine({ addr: SECOND_ENGINE })],
  });
}

/** A machine on such a host, to which it lends the engine. Not started. */
export function machineOf(host: LendingHost, backEnd: BackEnd, options: Partial<MachineOptions> = {}): Machine {
  const { iommufd: opened, nests } = backEnd;
  return createMachine(host, {
    board: q35({ memory: 16 * MIB }),
    plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin],
    devices: [intelIommu(nests ? MODERN : CACHING), lentBy(backEnd)],
    ...(opened ? { objects: [iommufd({ id: IOMMUFD })] } : {}),
    ...options,
  });
}

/** The device, as it is asked for at the start and when it is plugged again. */
export function lentBy({ iommufd: opened, device = ENGINE }: BackEnd): ReturnType<typeof vfioPci> {
  return vfioPci({ id: LENT, host: device, addr: LENT_AT, ...(opened ? { iommufd: IOMMUFD } : {}) });
}
