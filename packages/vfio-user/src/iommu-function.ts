/**
 * An IOMMU unit that is served: its registers are BAR 0 of a PCI function, which exists for that purpose only. The guest's firmware
 * places the BAR, and a DMAR table names that address as the unit's register base. Then the function should vanish: its BAR goes on
 * decoding, and the guest's operating system finds registers and nothing else there, as on real hardware.
 */
import { type AddressSpace, MemTx, Region } from '@remora/core';
import { Command, Config, PciFunction, type PciIdentity } from '@remora/pci';
import { VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VfioPciRegion } from '@remora/uapi';
import { configRegion } from './config-region.js';
import type { ServedDevice, ServedRegion } from './served-device.js';

const ALL_ONES = 0xff;

export interface IommuFunctionOptions {
  readonly name: string;
  readonly identity: PciIdentity;
  /** Where the registers are reached, and at which address there. */
  readonly space: AddressSpace;
  readonly base: number;
  /** Of the register page: a power of two, at least 16. */
  readonly size: number;
  /**
   * Bytes of the register page, `[start, end)`, the first read of which hides the function's configuration space: CAP, which an operating
   * system reads before it looks at the bus. It shows again after a reset. Absent: it stays.
   */
  readonly hideAfter?: { readonly start: number; readonly end: number };
  /** Resets the unit. */
  readonly reset: () => void;
}

/**
 * Bus mastering is on after a reset: nobody enables it for a function without a driver, and the client lets no message of the unit's
 * pass without.
 */
export function servedIommuFunction(options: IommuFunctionOptions): ServedDevice {
  const { name, identity, space, base, size, hideAfter } = options;
  const fn = new PciFunction(name, identity);
  const writable = Command.IO | Command.MEMORY | Command.MASTER | Command.PARITY | Command.SERR | Command.INTX_DISABLE;
  fn.config.define(Config.COMMAND, 2, Command.MASTER, writable);
  fn.addBar(0, Region.container(`${name}.registers`, size), { type: 'mem32' });
  let hidden = false;
  const registers: ServedRegion = {
    size,
    read(offset, out) {
      if (hideAfter !== undefined && offset < hideAfter.end && offset + out.length > hideAfter.start) hidden = true;
      if (space.read(0, base + offset, out) !== MemTx.OK) out.fill(ALL_ONES);
    },
    write(offset, from) {
      space.write(0, base + offset, from);
    },
  };
  const config = configRegion(fn);
  const regions = new Array<ServedRegion | undefined>(VFIO_PCI_NUM_REGIONS).fill(undefined);
  regions[VfioPciRegion.BAR0] = registers;
  regions[VfioPciRegion.CONFIG] = {
    size: config.size,
    read: (offset, out) => (hidden ? out.fill(ALL_ONES) : config.read(offset, out)),
    write: (offset, from) => config.write(offset, from),
  };
  return {
    name,
    regions,
    interrupts: new Array<number>(VFIO_PCI_NUM_IRQS).fill(0),
    reset: () => {
      hidden = false;
      fn.reset();
      options.reset();
    },
  };
}
