/** What Remora's half of every live machine is: a unit and the devices behind it, each served at a socket of its own. */
import type { UnitFactory } from '@hw/intel-iommu';
import { dmarTable } from '@hw/q35';
import type { ServedMachine } from '../serve/index.js';
import { LiveError } from './peers/live-error.js';
import { placeOfBar } from './place-of-bar.js';
import type { QemuProcess } from './qemu-process.js';

/** The function that has the unit's registers, a page, in its BAR. Linux looks for a driver under its id, and has none. */
export const REGISTER_FUNCTION = {
  identity: { vendor: 0x1f1f, device: 0x0d1a, classCode: 0x08_06_00 },
  bytes: 0x1000,
};
const FIRMWARE_MS = 120_000;

/** Puts something around the units that are made: makes another maker of the one that it is given. */
export type UnitsAround = (make: UnitFactory) => UnitFactory;

export abstract class ServedUnit implements Disposable {
  /** The unit is its part `unit`. */
  abstract readonly served: ServedMachine;
  /** Socket by device. */
  abstract readonly sockets: Readonly<Record<string, string>>;
  readonly #listening: Disposable[] = [];

  async listen(): Promise<void> {
    for (const [id, path] of Object.entries(this.sockets)) this.#listening.push(await this.served.listen(id, path));
  }

  /**
   * Where the guest's firmware places the unit's registers: the same place at each start. `starting` has no kernel, and ends with this.
   * @throws LiveError if it comes to no place.
   */
  async placedBy(starting: QemuProcess): Promise<number> {
    await using qemu = starting;
    const waited = await qemu.until(() => this.#registerBase !== undefined, FIRMWARE_MS);
    if (waited === 'ended') throw new LiveError(`QEMU ended: ${qemu.complaint}`);
    if (waited === 'came') return this.#registerBase!;
    throw new LiveError("the guest's firmware gave the unit's registers no place");
  }

  /** The ACPI table that tells of a unit at `base`. */
  dmar(base: number): Uint8Array {
    const { rootBus } = this.served.machine.board;
    return dmarTable({ ...rootBus.iommu!.facts!, registerBase: base }, rootBus);
  }

  [Symbol.dispose](): void {
    for (const each of this.#listening) each[Symbol.dispose]();
    this.served[Symbol.dispose]();
  }

  get #registerBase(): number | undefined {
    return placeOfBar(this.served.server('unit').device);
  }
}
