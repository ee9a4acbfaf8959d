/** The functions that a host lends to the rig's machine, and where the guest finds them. */
import { GuestEngine, ENGINE, SECOND_ENGINE } from '@remora/machines';
import type { Machine } from '@remora/machine';
import { Config } from '@remora/pci';

/** Where a function of the host appears in the guest. */
export interface Placement {
  readonly addr: string;
  /** Id of a root port; default: the root bus. */
  readonly bus?: string;
  readonly container?: 'new';
  /** Address on the host; default: by position, the first engine of the host, then the second. */
  readonly host?: string;
  /** The guest has tables for it from the start; the test plugs it. */
  readonly later?: true;
}

const HOST_FUNCTIONS = [ENGINE, SECOND_ENGINE];
const MEMORY_AND_MASTER = 6;
/** Where the guest maps what is behind bridges: a window of 1 MiB each, by bus number. */
const WINDOWS = 0xd000_0000;
const WINDOW_BYTES = 0x10_0000;
/** A window's registers count in this unit. */
const WINDOW_UNIT = 0x1_0000;

export class LentFunctions {
  readonly placements: readonly Placement[];
  readonly #options: string;

  /** `options` are further ones of each vfio-pci. */
  constructor(placements: readonly Placement[], options = '') {
    this.placements = placements;
    this.#options = options;
  }

  /** Id of the vfio-pci device of function `index`. */
  deviceId(index: number): string {
    return `host${index}`;
  }

  /** As `machine.plug` takes it. */
  deviceString(index: number): string {
    const { addr, bus, container, host } = this.placements[index]!;
    const parts = ['vfio-pci', `id=${this.deviceId(index)}`, `host=${host ?? HOST_FUNCTIONS[index]}`, `addr=${addr}`];
    if (bus !== undefined) parts.push(`bus=${bus}`);
    if (container !== undefined) parts.push(`container=${container}`);
    if (this.#options !== '') parts.push(this.#options);
    return parts.join(',');
  }

  /** Requester id of function `index` in the guest (of the slot 03.0, if there is none). */
  requesterId(index: number): number {
    const { addr = '03.0', bus } = this.placements[index] ?? {};
    const [device, fn = '0'] = addr.split('.');
    return (bus === undefined ? 0 : this.#busNumber(index) << 8) | (parseInt(device!, 16) << 3) | Number(fn);
  }

  /** Address of function `index` in the guest. */
  bdf(index: number): string {
    const id = this.requesterId(index);
    const hexadecimal = (value: number): string => value.toString(16).padStart(2, '0');
    return `${hexadecimal(id >>> 8)}:${hexadecimal((id >>> 3) & 0x1f)}.${id & 7}`;
  }

  /** The engine behind a bridge, its BARs in the bridge's window; undefined if it is on the root bus. */
  engineBehindBridge(machine: Machine, index: number): GuestEngine | undefined {
    if (this.placements[index]?.bus === undefined) return undefined;
    return new GuestEngine(machine, this.bdf(index), this.#window(index));
  }

  /** Numbers the buses behind root ports and gives them addresses, as firmware would. */
  openBridges(machine: Machine): void {
    for (const [index, { bus }] of this.placements.entries()) {
      if (bus === undefined) continue;
      const [bridge] = machine.functions(bus);
      const write = (register: number, value: number, size: number): void =>
        machine.config.write(bridge!.bdf, register, value, size);
      write(Config.SECONDARY_BUS, this.#busNumber(index), 1);
      write(Config.SUBORDINATE_BUS, this.#busNumber(index), 1);
      write(Config.MEMORY_BASE, this.#window(index) / WINDOW_UNIT, 2);
      write(Config.MEMORY_LIMIT, this.#window(index) / WINDOW_UNIT, 2);
      write(Config.COMMAND, MEMORY_AND_MASTER, 2);
    }
  }

  #busNumber(index: number): number {
    return index + 1;
  }

  #window(index: number): number {
    return WINDOWS + this.#busNumber(index) * WINDOW_BYTES;
  }
}
