/** Remora's half of a live machine with a Data Streaming Accelerator: it and the unit before it, each at a socket of its own. */
import { join } from 'node:path';
import dsaPlugin from '@hw/dsa/plugin';
import { intelIommuWith } from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import type { Ram } from '@remora/core';
import { formatBdf } from '@remora/pci';
import { ServedMachine } from '../../serve/index.js';
import { ObservedUnits, type UnitAccount } from '../observed-unit.js';
import { REGISTER_FUNCTION, ServedUnit, type UnitsAround } from '../served-unit.js';
import type { DsaHost } from './dsa-host.js';

/** Device numbers on QEMU's root bus. */
export const DSA_SLOTS = { unit: 3, dsa: 4 } as const;
/** As Linux names it. */
export const DSA_FUNCTION = formatBdf(0, DSA_SLOTS.dsa << 3);

/**
 * What Linux asks of a unit before it shares address spaces: PASIDs, first-stage tables, device TLBs, page requests, and walks that snoop
 * the processor's caches.
 */
const UNIT = { 'x-scalable-mode': 'on', nesting: true, 'device-iotlb': true, svm: true, 'x-smpwcs': true };

export class DsaModel extends ServedUnit {
  readonly sockets: Readonly<Record<keyof typeof DSA_SLOTS, string>>;
  readonly served: ServedMachine;
  readonly #units = new ObservedUnits();

  /** Sockets are made in `folder`; the guest's memory will be in the file `memory`. With `host`, the accelerator is that one's. */
  constructor(
    folder: string,
    memory: string,
    report: (text: string) => void,
    host?: DsaHost,
    around: UnitsAround = make => make,
  ) {
    super();
    this.sockets = { unit: join(folder, 'unit'), dsa: join(folder, 'dsa') };
    const dsa = host?.device ?? { driver: 'dsa', options: { ats: true, pri: true } };
    this.served = new ServedMachine({
      plugins: [intelIommuWith(around(this.#units.make)), host === undefined ? dsaPlugin : vfioPciPlugin, q35Plugin],
      devices: [
        { driver: 'intel-iommu', options: { id: 'unit', ...UNIT, ...host?.unit } },
        { ...dsa, options: { id: 'dsa', addr: `0${DSA_SLOTS.dsa}.0`, ...dsa.options } },
      ],
      memory,
      ...(host === undefined ? {} : { on: host.on }),
      iommu: REGISTER_FUNCTION,
      report,
    });
  }

  /** The guest's memory. */
  get ram(): Ram {
    return this.served.machine.board.ram;
  }

  /** What the guest did to the unit. */
  get accounts(): readonly UnitAccount[] {
    return this.#units.accounts;
  }
}
