/** A function's configuration space as a region. What the way to the client cannot carry is not in it: without descriptors INTx and MSI-X. */
import { Capability, Config, type PciFunction } from '@remora/pci';
import type { ServedRegion } from './served-device.js';

const NEXT_POINTER = 1;
const MSIX_BYTES = 12;

/** The configuration space of `fn`; unless interrupts go by descriptors, without the MSI-X capability and the interrupt pin. */
export function configRegion({ config, capabilities }: PciFunction, descriptors = false): ServedRegion {
  const hidden = descriptors ? undefined : capabilities.find(Capability.MSIX);
  const isHidden = (at: number): boolean => hidden !== undefined && at >= hidden && at < hidden + MSIX_BYTES;
  /** Where the chain leads to the hidden capability. */
  let link: number | undefined;
  if (hidden !== undefined) {
    const before = capabilities.standard.find(each => config.get8(each.offset + NEXT_POINTER) === hidden);
    link = before === undefined ? Config.CAPABILITIES : before.offset + NEXT_POINTER;
  }
  const shown = (at: number, byte: number): number => {
    if ((at === Config.INTERRUPT_PIN && !descriptors) || isHidden(at)) return 0;
    return at === link ? config.get8(hidden! + NEXT_POINTER) : byte;
  };
  return {
    size: config.size,
    read(offset, out) {
      eachAccess(offset, out.length, (at, size, done) => {
        const value = config.read(at, size);
        for (let i = 0; i < size; i++) out[done + i] = shown(at + i, value >>> (8 * i));
      });
    },
    write(offset, from) {
      eachAccess(offset, from.length, (at, size, done) => {
        if (isHidden(at)) return;
        let value = 0;
        for (let i = size - 1; i >= 0; i--) value = (value << 8) | from[done + i]!;
        config.write(at, value >>> 0, size);
      });
    },
  };
}

/** Aligned accesses of 4, 2 and 1 bytes that make up a transfer. */
function eachAccess(offset: number, length: number, access: (at: number, size: number, done: number) => void): void {
  for (let done = 0; done < length;) {
    const at = offset + done;
    const left = length - done;
    const size = at % 4 === 0 && left >= 4 ? 4 : at % 2 === 0 && left >= 2 ? 2 : 1;
    access(at, size, done);
    done += size;
  }
}
