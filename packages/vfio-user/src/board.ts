/**
 * The board of a machine that is a part of somebody else's: a root bus for the devices that are served, and system memory that is the
 * other machine's. Omits whatever else a board has: firmware, chipset and processors are over there.
 */
import { AddressSpace, type Inspector, properties, type Ram, Region, WHOLE_SPACE } from '@remora/core';
import { type Board, type BoardKind, type BoardServices, MsiLog, PciBus, PHYSICAL_LIMIT } from '@remora/pci';
import type { GuestMemory } from './guest-memory.js';

const PORT_BYTES = 0x1_0000;
/** BARs of served devices lie over memory, as devices reach each other without leaving. */
const MEMORY_PRIORITY = -1;
/** The other machine's host bridge and chipset functions. */
const TAKEN = [0x00, 0xf8, 0xfa, 0xfb];
/** A machine asks for RAM; this one's is elsewhere. */
const NO_RAM = 4096;

export class ServedBoard implements Board {
  readonly name: string;
  readonly memory = Region.container('system', WHOLE_SPACE);
  readonly ports = Region.container('io', PORT_BYTES);
  readonly addressSpace: AddressSpace;
  readonly portSpace: AddressSpace;
  readonly rootBus: PciBus;
  readonly reserved = TAKEN;
  /** The guest's memory if that is a host's; else one page that nothing shows. */
  readonly ram: Ram;
  readonly messages = new MsiLog();

  /**
   * `guest` undefined: the guest's memory is `ram`, from address 0 on. `intx` is called when a function has asserted its interrupt pin, or
   * let go of it.
   */
  constructor({ name, ram, ledger }: BoardServices, guest: GuestMemory | undefined, intx?: () => void) {
    this.name = name;
    this.ram = ram;
    const memory =
      guest === undefined ? Region.ram('guest-memory', ram) : Region.port('guest-memory', PHYSICAL_LIMIT, guest);
    this.memory.add(0, memory, MEMORY_PRIORITY);
    this.addressSpace = new AddressSpace('memory', this.memory);
    this.portSpace = new AddressSpace('io', this.ports);
    this.rootBus = PciBus.root('pcie.0', {
      memory: this.memory,
      ports: this.ports,
      addressSpace: this.addressSpace,
      msi: this.messages.deliver,
      ...(intx === undefined ? {} : { intx }),
      ledger,
    });
  }

  firmwareTables(): [] {
    return [];
  }

  /** Nothing here has a state. */
  reset(): void {}

  inspect(into: Inspector): void {
    into.value('memory', this.addressSpace.tree());
  }

  [Symbol.dispose](): void {
    this.addressSpace[Symbol.dispose]();
    this.portSpace[Symbol.dispose]();
  }
}

/**
 * The kind of board whose memory is `guest`, or if that is a number, so many bytes of the process that the machine runs in: its id is
 * `vfio-user`. `intx`: see ServedBoard.
 */
export function servedBoardKind(guest: GuestMemory | number, intx?: () => void): BoardKind<Record<string, never>> {
  const [bytes, elsewhere] = typeof guest === 'number' ? [guest, undefined] : [NO_RAM, guest];
  return {
    id: 'vfio-user',
    properties: properties({}),
    ramBytes: () => bytes,
    create: services => new ServedBoard(services, elsewhere, intx),
  };
}
