import { bool, properties, size } from '@remora/core';
import type { TypedDevice } from '@remora/pci';

const MIB = 0x10_0000;
const TIB = 2 ** 40;

/** Options of the q35 board. */
export const q35Properties = properties({
  memory: size({ min: MIB, max: TIB, multipleOf: 4096 }, 512 * MIB, 'RAM in bytes; text may end in K, M, G or T'),
  ecam: bool(true, 'ECAM is enabled from the start, as firmware leaves it; off: as the chipset comes out of reset'),
});
export type Q35Config = ReturnType<typeof q35Properties.parse>;

/** `-machine q35 -m ...` as an object; `memory` in bytes. */
export function q35(options: Partial<Q35Config> = {}): TypedDevice {
  return { driver: 'q35', options: { ...options } };
}
