/** Machines and what their guests do, for the runs with and without save and restore. */
import { Random } from '@remora/bits';
import { assembleOn, createHost, createMachine, type DeviceSpec, type Machine } from '@remora/machine';
import { ENGINE, physicalVtd, plugins, SECOND_ENGINE } from '@remora/machines';
import { intelIommu, type VtdConfig } from '@hw/intel-iommu/config';
import { Reg } from '@hw/intel-iommu';
import { CONFIGURATIONS } from '../fuzz/configurations.js';
import { Coverage } from '../fuzz/coverage.js';
import { machinePrograms } from '../fuzz/machine-program.js';
import { MachineRun } from '../fuzz/machine-run.js';
import fc from 'fast-check';
import { AssignedGuest, type AssignedEngine } from './assigned-guest.js';
import { AtsGuest } from './ats-guest.js';
import { EduGuest } from './edu-guest.js';
import { EmulatedGuest, type Stage } from './emulated-guest.js';
import type { Recording } from './operations.js';
import { NvmeGuest } from './nvme-guest.js';
import { ShadowGuest } from './shadow-guest.js';

export interface Scenario {
  readonly name: string;
  create(seed: number): Machine;
  /** Plays the guest; all that it does goes through the recording. */
  play(recording: Recording, seed: number): void;
}

const ACTIONS = 60;
const MIB = 0x10_0000;
/** RAM of the fuzz programs' machines: half of their tables are above 4 GiB. */
const FUZZ_MEMORY = 4096 * MIB;

interface EmulatedOptions {
  readonly stage: Stage;
  readonly iommu?: Partial<VtdConfig>;
  /** Nanoseconds that an engine's command takes. */
  readonly latency?: number;
  readonly extra?: readonly DeviceSpec[];
}

function emulated(name: string, { stage, iommu = {}, latency = 0, extra = [] }: EmulatedOptions): Scenario {
  const mode = stage === 'legacy' ? {} : { 'x-scalable-mode': 'on' as const, 'x-flts': stage === 'first' };
  return {
    name,
    create: () => {
      const devices = [
        intelIommu({ ...mode, ...iommu }),
        'iommu-testdev,addr=04.0',
        `dma-engine,addr=05.0,id=engine,latency=${latency}`,
        ...extra,
      ];
      return createMachine(undefined, { board: 'q35,memory=32M', plugins, devices });
    },
    play: (recording, seed) => {
      const guest = new EmulatedGuest(recording, new Random(seed), stage);
      for (let count = 0; count < ACTIONS; count++) guest.act();
    },
  };
}

/** An engine that keeps translations and requests pages; its invalidations take a while. */
function withDeviceTlb(name: string, engine: string): Scenario {
  return {
    name,
    create: () =>
      createMachine(undefined, {
        board: 'q35,memory=16M',
        plugins,
        devices: [
          'intel-iommu,x-scalable-mode=on,x-flts=on,device-iotlb=on,svm=on,pasid-bits=8',
          `dma-engine,addr=05.0,ats=on,pri=on${engine}`,
        ],
      }),
    play: (recording, seed) => {
      const guest = new AtsGuest(recording, new Random(seed));
      for (let count = 0; count < ACTIONS; count++) guest.act();
    },
  };
}

const edu: Scenario = {
  name: 'edu',
  create: () =>
    createMachine(undefined, { board: 'q35,memory=16M', plugins, devices: ['intel-iommu', 'edu,addr=06.0'] }),
  play: (recording, seed) => {
    const guest = new EduGuest(recording, new Random(seed));
    for (let count = 0; count < 2 * ACTIONS; count++) guest.act();
  },
};

const nvme: Scenario = {
  name: 'nvme',
  create: () =>
    createMachine(undefined, {
      board: 'q35,memory=16M',
      plugins,
      devices: ['intel-iommu', 'nvme,addr=06.0,size=1M,mdts=2,max_ioqpairs=2,aer_max_queued=4'],
    }),
  play: (recording, seed) => {
    const guest = new NvmeGuest(recording, new Random(seed));
    for (let count = 0; count < 4 * ACTIONS; count++) guest.act();
  },
};

interface AssignedOptions {
  readonly engines: readonly (AssignedEngine & { readonly options: string })[];
  readonly latency?: number;
  /** The host cannot nest: its unit follows the guest's tables, which caching mode reports. */
  readonly shadow?: boolean;
}

function assigned(name: string, { engines, latency = 0, shadow = false }: AssignedOptions): Scenario {
  const hosts = [ENGINE, SECOND_ENGINE];
  return {
    name,
    create: seed => {
      const host = createHost({
        memory: 64 * MIB,
        seed,
        iommu: physicalVtd(),
        kernel: { nestingType: !shadow },
        plugins,
        devices: hosts.map(addr => `dma-engine,addr=${addr},latency=${latency}`),
      });
      return assembleOn(host, on =>
        createMachine(on, {
          board: 'q35,memory=16M',
          plugins,
          devices: [
            shadow ? 'intel-iommu,caching-mode=on' : 'intel-iommu,x-scalable-mode=modern',
            ...engines.map(({ options }, index) => `vfio-pci,host=${hosts[index]},${options}`),
          ],
        }),
      );
    },
    play: (recording, seed) => {
      const random = new Random(seed);
      const guest = shadow
        ? new ShadowGuest(recording, random, engines)
        : new AssignedGuest(recording, random, engines);
      for (let count = 0; count < ACTIONS; count++) guest.act();
    },
  };
}

/** Programs of the fuzz test, whose tables are stranger than what a guest's driver builds; each DMA is judged by the oracle on the way. */
function fuzzed(index: number): Scenario {
  const configuration = CONFIGURATIONS[index]!;
  return {
    name: `fuzz program, ${configuration.name}`,
    create: () =>
      createMachine(undefined, {
        board: `q35,memory=${FUZZ_MEMORY}`,
        plugins,
        devices: [
          intelIommu({ ...configuration.options, 'fault-records': 1 }),
          'iommu-testdev,addr=04.0',
          'dma-engine,addr=05.0',
        ],
      }),
    play: (recording, seed) => {
      const [program] = fc.sample(machinePrograms(1), { seed, numRuns: 1 });
      const { machine } = recording;
      new MachineRun(machine, configuration, program!.genes, new Coverage()).run(program!.steps.slice(0, 6));
      machine.memory.read(0, 0xfed9_0000 + Reg.FSTS, new Uint8Array(4));
    },
  };
}

const ONE = { bdf: '00:03.0', requesterId: 0x18, options: 'addr=03.0' };
const TWO = { bdf: '00:06.0', requesterId: 0x30, options: 'addr=06.0' };
const APART = { ...TWO, options: 'addr=06.0,container=new' };

export const SCENARIOS: readonly Scenario[] = [
  emulated('legacy', { stage: 'legacy' }),
  emulated('legacy, interrupt remapping, three fault records', {
    stage: 'legacy',
    iommu: { intremap: true, 'fault-records': 3 },
  }),
  emulated('legacy, an engine that takes its time', { stage: 'legacy', latency: 1000, iommu: { intremap: true } }),
  emulated('scalable, second stage', { stage: 'second', iommu: { intremap: true, eim: true } }),
  emulated('scalable, first stage, an engine that takes its time', {
    stage: 'first',
    latency: 400,
    iommu: { 'x-scalable-mode': 'modern', 'fault-records': 2, intremap: true },
  }),
  emulated('caching mode, two engines behind bridges', {
    stage: 'legacy',
    iommu: { 'caching-mode': true, 'iotlb-entries': 64 },
    extra: ['pcie-root-port,id=rp1,addr=08.0', 'dma-engine,bus=rp1,latency=300', 'pcie-root-port,id=rp2,addr=09.0'],
  }),
  emulated('as QEMU 10.2, legacy', { stage: 'legacy', iommu: { compat: 'qemu-10.2', intremap: true } }),
  emulated('as QEMU 10.2, scalable', { stage: 'second', iommu: { compat: 'qemu-10.2', 'caching-mode': true } }),
  assigned('one engine of a host', { engines: [ONE] }),
  assigned('two engines in one container, which take their time', { engines: [ONE, TWO], latency: 900 }),
  assigned('two engines, each in a container of its own', { engines: [ONE, APART] }),
  assigned('a host that cannot nest follows the tables of one engine', { engines: [ONE], shadow: true }),
  assigned('and of two', { engines: [ONE, TWO], latency: 700, shadow: true }),
  withDeviceTlb('device TLB and page requests', ''),
  withDeviceTlb('a slow device TLB, and an engine that takes its time', ',latency=500,x-invalidate-latency=8000'),
  edu,
  nvme,
  fuzzed(0),
  fuzzed(CONFIGURATIONS.findIndex(({ modes }) => modes.includes('first'))),
  fuzzed(CONFIGURATIONS.findIndex(({ name }) => name === 'nesting')),
];
