/** In place of QEMU's own unit and devices: ours, which nest, each at a socket of its own. */
import { join } from 'node:path';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import eduPlugin from '@hw/edu/plugin';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { dmarTable } from '@hw/q35';
import q35Plugin from '@hw/q35/plugin';
import { ServedMachine } from '../../serve/index.js';
import { placeOfBar } from '../place-of-bar.js';
import { served } from '../qemu-process.js';

/** Device numbers on QEMU's root bus. Those of the devices are the ones that QEMU's have. */
const SLOTS = { unit: 3, edu: 4, second: 5, engine: 6 } as const;
const IDENTITY = { vendor: 0x1f1f, device: 0x0d1a, classCode: 0x08_06_00 };
const PAGE = 0x1000;

/** Both stages, one over the other; device TLBs, page requests, accessed and dirty bits. Options of intel-iommu. */
export const NESTING_UNIT = {
  'x-scalable-mode': 'on',
  nesting: true,
  'device-iotlb': true,
  svm: true,
  'x-smpwcs': true,
  'x-ssads': true,
} as const;

export class NestingModel implements Disposable {
  readonly #sockets: Readonly<Record<keyof typeof SLOTS, string>>;
  readonly #served: ServedMachine;
  readonly #listening: Disposable[] = [];

  /** Sockets are made in `folder`; the guest's memory will be in the file `memory`. */
  constructor(folder: string, memory: string, report: (text: string) => void) {
    this.#sockets = {
      unit: join(folder, 'unit'),
      edu: join(folder, 'edu'),
      second: join(folder, 'second'),
      engine: join(folder, 'engine'),
    };
    this.#served = new ServedMachine({
      plugins: [intelIommuPlugin, eduPlugin, dmaEnginePlugin, q35Plugin],
      devices: [
        { driver: 'intel-iommu', options: { id: 'unit', ...NESTING_UNIT } },
        { driver: 'edu', options: { id: 'edu', addr: `0${SLOTS.edu}.0` } },
        { driver: 'edu', options: { id: 'second', addr: `0${SLOTS.second}.0` } },
        { driver: 'dma-engine', options: { id: 'engine', addr: `0${SLOTS.engine}.0`, ats: true, pri: true } },
      ],
      memory,
      iommu: { identity: IDENTITY, bytes: PAGE },
      report,
    });
  }

  async listen(): Promise<void> {
    for (const [id, path] of Object.entries(this.#sockets)) this.#listening.push(await this.#served.listen(id, path));
  }

  /** Arguments of QEMU's. */
  get devices(): string[] {
    return Object.entries(SLOTS).flatMap(([id, slot]) => served(this.#sockets[id as keyof typeof SLOTS], slot));
  }

  /** Where the guest's firmware has placed the unit's registers; undefined before. */
  get registerBase(): number | undefined {
    return placeOfBar(this.#served.server('unit').device);
  }

  /** The ACPI table that tells of a unit at `base`. */
  dmar(base: number): Uint8Array {
    const { rootBus } = this.#served.machine.board;
    return dmarTable({ ...rootBus.iommu!.facts!, registerBase: base }, rootBus);
  }

  [Symbol.dispose](): void {
    for (const each of this.#listening) each[Symbol.dispose]();
    this.#served[Symbol.dispose]();
  }
}
