/** Any PCI function of this framework, as something to serve: it need not know. */
import { AddressSpace, ConfigError, type Device, MemTx, type Region, RESET_PHASES } from '@remora/core';
import { Capability, Config, type PciFunction } from '@remora/pci';
import { VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VfioPciIrq, VfioPciRegion } from '@remora/uapi';
import { configRegion } from './config-region.js';
import type { ServedDevice, ServedRegion } from './served-device.js';

const BARS = 6;
const ALL_ONES = 0xff;
/** Multiple Message Capable, in the low byte of MSI's message control. */
const MSI_CONTROL = 2;

/**
 * Serves `fn`, a function of `device`. Interrupts go out as messages, so only MSI can be served.
 * @throws ConfigError at `path` if the function has interrupts, but no MSI.
 */
export function servedFunction(path: string, fn: PciFunction, device: Pick<Device, 'reset'>): ServedDevice {
  const vectors = msiVectors(path, fn);
  const regions = new Array<ServedRegion | undefined>(VFIO_PCI_NUM_REGIONS).fill(undefined);
  for (let index = 0; index < BARS; index++) {
    const region = fn.bars.region(index);
    if (region !== undefined) regions[index] = barRegion(region);
  }
  regions[VfioPciRegion.CONFIG] = configRegion(fn);
  const interrupts = new Array<number>(VFIO_PCI_NUM_IRQS).fill(0);
  interrupts[VfioPciIrq.MSI] = vectors;
  return {
    name: fn.name,
    regions,
    interrupts,
    trigger: (_index, vector) => fn.msi(vector),
    reset: () => {
      for (const phase of RESET_PHASES) device.reset?.(phase);
    },
  };
}

/** What no register answers reads as ones, and is lost when written: so a root complex ends it. */
function barRegion(region: Region): ServedRegion {
  const space = new AddressSpace(region.name, region);
  return {
    size: region.size,
    read(offset, out) {
      if (space.read(Math.floor(offset / 2 ** 32), offset >>> 0, out) !== MemTx.OK) out.fill(ALL_ONES);
    },
    write(offset, from) {
      space.write(Math.floor(offset / 2 ** 32), offset >>> 0, from);
    },
  };
}

function msiVectors(path: string, { config, capabilities }: PciFunction): number {
  const msi = capabilities.find(Capability.MSI);
  if (msi !== undefined) return 1 << ((config.get8(msi + MSI_CONTROL) >>> 1) & 7);
  const kind = capabilities.find(Capability.MSIX) !== undefined ? 'MSI-X' : 'INTx';
  if (kind === 'INTx' && config.get8(Config.INTERRUPT_PIN) === 0) return 0;
  throw new ConfigError(
    path,
    `its interrupts are ${kind}, which take event descriptors, and those need koffi, which is not used here: expected a device with MSI`,
  );
}
