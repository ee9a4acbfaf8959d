/**
 * Whose message it is: vectors of a function's MSI, by what its capability says, and of its MSI-X. The guest's MSI-X table is kept by the
 * client, so the function's own has entries of this server's: all with one address, each with its vector as data.
 */
import { Capability, type PciFunction } from '@remora/pci';
import { VfioPciIrq } from '@remora/uapi';
import type { ServedDevice, ServedRegion, ServedVector } from './served-device.js';

/** Message control, in both capabilities. */
const CONTROL = 2;
const MSI = { ENABLE: 1, ADDRESS_LO: 4, ADDRESS_HI: 8, DATA_32: 8, DATA_64: 12, WIDE: 0x80 } as const;
const MSIX = { ENABLE: 0x8000, SIZE: 0x7ff, TABLE: 4, ENTRY_BYTES: 16, CONTROL: 12 } as const;
/** Where an IOMMU sees interrupt requests, and translates nothing. */
const ADDRESS = 0xfee0_0000;

/** Vectors of each kind that `fn` has, by number. */
export function msiVectors({ config, capabilities }: PciFunction): number {
  const at = capabilities.find(Capability.MSI);
  return at === undefined ? 0 : 1 << ((config.get8(at + CONTROL) >>> 1) & 7);
}

export function msixVectors({ config, capabilities }: PciFunction): number {
  const at = capabilities.find(Capability.MSIX);
  return at === undefined ? 0 : (config.get16(at + CONTROL) & MSIX.SIZE) + 1;
}

/** The part of a served device that has to do with messages. `regions`: its BARs. */
export function messageVectors(
  fn: PciFunction,
  regions: readonly (ServedRegion | undefined)[],
): Required<Pick<ServedDevice, 'vectorOf' | 'takes'>> {
  const { config, capabilities } = fn;
  const msi = capabilities.find(Capability.MSI);
  const msix = capabilities.find(Capability.MSIX);
  const taken = new Set<number>();
  const entry = (vector: number, masked: boolean): void => {
    if (msix === undefined) return;
    const table = config.get32(msix + MSIX.TABLE);
    const at = (table & ~7) + vector * MSIX.ENTRY_BYTES;
    const region = regions[table & 7];
    region?.write(at, bytesOf(ADDRESS, 0, vector));
    region?.write(at + MSIX.CONTROL, bytesOf(masked ? 1 : 0));
  };
  fn.onReset(() => {
    for (const vector of taken) entry(vector, false);
  });
  return {
    takes(vector, take) {
      if (take) taken.add(vector);
      else taken.delete(vector);
      entry(vector, !take);
    },
    vectorOf(hi, lo, data) {
      if (msix !== undefined && (config.get16(msix + CONTROL) & MSIX.ENABLE) !== 0)
        return hi === 0 && lo >>> 0 === ADDRESS ? { index: VfioPciIrq.MSIX, vector: data >>> 0 } : undefined;
      return msi === undefined ? undefined : ownMsi(fn, msi, hi, lo, data);
    },
  };
}

/** Its capability has one message, whose low bits a function with several vectors changes. */
function ownMsi({ config }: PciFunction, at: number, hi: number, lo: number, data: number): ServedVector | undefined {
  const control = config.get16(at + CONTROL);
  const wide = (control & MSI.WIDE) !== 0;
  const vectors = 1 << ((control >>> 4) & 7);
  const first = config.get16(at + (wide ? MSI.DATA_64 : MSI.DATA_32)) & ~(vectors - 1);
  if ((control & MSI.ENABLE) === 0 || lo >>> 0 !== config.get32(at + MSI.ADDRESS_LO)) return undefined;
  if (hi >>> 0 !== (wide ? config.get32(at + MSI.ADDRESS_HI) : 0)) return undefined;
  const vector = (data >>> 0) - first;
  return vector >= 0 && vector < vectors ? { index: VfioPciIrq.MSI, vector } : undefined;
}

function bytesOf(...words: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}
