/** In place of QEMU's own unit and devices: ours, which nest, each at a socket of its own. */
import { join } from 'node:path';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import eduPlugin from '@hw/edu/plugin';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import { ServedMachine } from '../../serve/index.js';
import { REGISTER_FUNCTION, ServedUnit } from '../served-unit.js';
import { served } from '../qemu-process.js';

/** Device numbers on QEMU's root bus. Those of the devices are the ones that QEMU's have. */
const SLOTS = { unit: 3, edu: 4, second: 5, engine: 6 } as const;

/** Both stages, one over the other; device TLBs, page requests, accessed and dirty bits. Options of intel-iommu. */
export const NESTING_UNIT = {
  'x-scalable-mode': 'on',
  nesting: true,
  'device-iotlb': true,
  svm: true,
  'x-smpwcs': true,
  'x-ssads': true,
} as const;

export class NestingModel extends ServedUnit {
  readonly sockets: Readonly<Record<keyof typeof SLOTS, string>>;
  readonly served: ServedMachine;

  /** Sockets are made in `folder`; the guest's memory will be in the file `memory`. */
  constructor(folder: string, memory: string, report: (text: string) => void) {
    super();
    this.sockets = {
      unit: join(folder, 'unit'),
      edu: join(folder, 'edu'),
      second: join(folder, 'second'),
      engine: join(folder, 'engine'),
    };
    this.served = new ServedMachine({
      plugins: [intelIommuPlugin, eduPlugin, dmaEnginePlugin, q35Plugin],
      devices: [
        { driver: 'intel-iommu', options: { id: 'unit', ...NESTING_UNIT } },
        { driver: 'edu', options: { id: 'edu', addr: `0${SLOTS.edu}.0` } },
        { driver: 'edu', options: { id: 'second', addr: `0${SLOTS.second}.0` } },
        { driver: 'dma-engine', options: { id: 'engine', addr: `0${SLOTS.engine}.0`, ats: true, pri: true } },
      ],
      memory,
      iommu: REGISTER_FUNCTION,
      report,
    });
  }

  /** Arguments of QEMU's. */
  get devices(): string[] {
    return Object.entries(SLOTS).flatMap(([id, slot]) => served(this.sockets[id as keyof typeof SLOTS], slot));
  }
}
