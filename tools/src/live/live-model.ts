/** Remora's half of a live machine: the unit, a disk and edu behind it, each served at a socket of its own. */
import { randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import eduPlugin from '@hw/edu/plugin';
import { intelIommuWith } from '@hw/intel-iommu/plugin';
import { Reg } from '@hw/intel-iommu/spec';
import nvmePlugin from '@hw/nvme/plugin';
import q35Plugin from '@hw/q35/plugin';
import { Command, Config, formatBdf } from '@remora/pci';
import { ServedMachine } from '../serve/index.js';
import type { LiveMode } from './modes.js';
import { ObservedUnits, type UnitAccount } from './observed-unit.js';
import { DISK_BYTES } from './live-disk.js';
import { REGISTER_FUNCTION, ServedUnit, type UnitsAround } from './served-unit.js';
import type { LiveAddresses } from './verdict.js';

/** Where QEMU plugs what is served, as device numbers of its root bus. */
export const SLOTS = { unit: 3, disk: 4, edu: 5 } as const;
/** An address of edu's 28 bits that Linux maps for nobody. */
const UNMAPPED = 0x234_5000;
const SECONDARY_BUS = 1;

export class LiveModel extends ServedUnit {
  readonly served: ServedMachine;
  readonly sockets: Readonly<Record<keyof typeof SLOTS, string>>;
  /** The file of the disk's contents. */
  readonly disk: string;
  readonly addresses: LiveAddresses;
  readonly #units = new ObservedUnits();

  /**
   * Files are made in `folder`; the guest's memory will be in the file `memory`.
   */
  constructor(
    mode: LiveMode,
    folder: string,
    memory: string,
    report: (text: string) => void,
    around: UnitsAround = make => make,
  ) {
    super();
    this.disk = join(folder, 'disk');
    this.sockets = { unit: join(folder, 'unit'), disk: join(folder, 'nvme'), edu: join(folder, 'edu-socket') };
    writeFileSync(this.disk, randomFillSync(new Uint8Array(DISK_BYTES)));
    const behindPort = mode.rootPort ? { bus: 'port' } : { addr: slot(SLOTS.disk) };
    this.served = new ServedMachine({
      plugins: [intelIommuWith(around(this.#units.make)), nvmePlugin, eduPlugin, q35Plugin],
      devices: [
        { driver: 'intel-iommu', options: { id: 'unit', ...mode.unit } },
        ...(mode.rootPort ? [{ driver: 'pcie-root-port', options: { id: 'port', addr: slot(SLOTS.disk) } }] : []),
        {
          driver: 'nvme',
          options: { id: 'disk', file: this.disk, serial: 'remora', msix: false, ...behindPort },
        },
        { driver: 'edu', options: { id: 'edu', addr: slot(SLOTS.edu) } },
      ],
      memory,
      iommu: {
        ...REGISTER_FUNCTION,
        // With interrupt remapping Linux claims the registers before it looks at the bus, and would move the BAR.
        ...(mode.unit['intremap'] === true ? { hideAfter: { start: Reg.CAP, end: Reg.CAP + 8 } } : {}),
      },
      report,
    });
    const { machine } = this.served;
    if (mode.rootPort) this.#enumerate();
    this.addresses = {
      disk: mode.rootPort ? formatBdf(SECONDARY_BUS, 0) : formatBdf(0, SLOTS.disk << 3),
      edu: formatBdf(0, machine.functions('edu')[0]!.devfn),
      fault: UNMAPPED,
    };
  }

  /** What the guests of each boot did to the unit. */
  get accounts(): readonly UnitAccount[] {
    return this.#units.accounts;
  }

  /** The port that the guest sees is QEMU's: ours gets the numbers that firmware gives the only bridge there is. */
  #enumerate(): void {
    const { config } = this.served.machine.functions('port')[0]!;
    config.write(Config.PRIMARY_BUS, 0, 1);
    config.write(Config.SECONDARY_BUS, SECONDARY_BUS, 1);
    config.write(Config.SUBORDINATE_BUS, SECONDARY_BUS, 1);
    config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
  }
}

/** As an option `addr`. */
function slot(device: number): string {
  return `${device.toString(16).padStart(2, '0')}.0`;
}
