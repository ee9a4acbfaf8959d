/** Any PCI function of this framework, as something to serve: it need not know. */
import { AddressSpace, ConfigError, type Device, MemTx, type Region, RESET_PHASES } from '@remora/core';
import { Config, type PciFunction } from '@remora/pci';
import { VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VfioPciIrq, VfioPciRegion } from '@remora/uapi';
import { configRegion } from './config-region.js';
import { messageVectors, msiVectors, msixVectors } from './message-vectors.js';
import type { ServedDevice, ServedRegion } from './served-device.js';

const BARS = 6;
const ALL_ONES = 0xff;

export interface ServedFunctionOptions {
  /** Its clients pass descriptors: MSI-X and INTx go to them, too. */
  readonly descriptors?: boolean;
}

/** The kind of interrupt for which a function needs clients that pass descriptors; undefined if it can do without. */
export function needsDescriptors(fn: PciFunction): 'MSI-X' | 'INTx' | undefined {
  if (msiVectors(fn) > 0) return undefined;
  if (msixVectors(fn) > 0) return 'MSI-X';
  return fn.config.get8(Config.INTERRUPT_PIN) === 0 ? undefined : 'INTx';
}

/**
 * Serves `fn`, a function of `device`. Without descriptors interrupts go out as messages, so only MSI can be served.
 * @throws ConfigError at `path` if the function has interrupts, but no MSI, and there are no descriptors.
 */
export function servedFunction(
  path: string,
  fn: PciFunction,
  device: Pick<Device, 'reset'>,
  { descriptors = false }: ServedFunctionOptions = {},
): ServedDevice {
  const kind = descriptors ? undefined : needsDescriptors(fn);
  if (kind !== undefined) {
    const needed = 'which take event descriptors, and those need koffi, which is not used here';
    throw new ConfigError(path, `its interrupts are ${kind}, ${needed}: expected a device with MSI`);
  }
  const regions = new Array<ServedRegion | undefined>(VFIO_PCI_NUM_REGIONS).fill(undefined);
  for (let index = 0; index < BARS; index++) {
    const region = fn.bars.region(index);
    if (region !== undefined) regions[index] = barRegion(region);
  }
  regions[VfioPciRegion.CONFIG] = configRegion(fn, descriptors);
  const interrupts = new Array<number>(VFIO_PCI_NUM_IRQS).fill(0);
  interrupts[VfioPciIrq.MSI] = msiVectors(fn);
  if (descriptors) {
    interrupts[VfioPciIrq.INTX] = fn.config.get8(Config.INTERRUPT_PIN) === 0 ? 0 : 1;
    interrupts[VfioPciIrq.MSIX] = msixVectors(fn);
  }
  return {
    name: fn.name,
    regions,
    interrupts,
    trigger: (_index, vector) => fn.msi(vector),
    reset: () => {
      for (const phase of RESET_PHASES) device.reset?.(phase);
    },
    ...(descriptors ? messageVectors(fn, regions) : {}),
    get asserted() {
      return fn.intx.asserted;
    },
  };
}

/** What no register answers reads as ones, and is lost when written: so a root complex ends it. */
function barRegion(region: Region): ServedRegion {
  const space = new AddressSpace(region.name, region);
  return {
    size: region.size,
    reentrant: false,
    read(offset, out) {
      if (space.read(Math.floor(offset / 2 ** 32), offset >>> 0, out) !== MemTx.OK) out.fill(ALL_ONES);
    },
    write(offset, from) {
      space.write(Math.floor(offset / 2 ** 32), offset >>> 0, from);
    },
  };
}
