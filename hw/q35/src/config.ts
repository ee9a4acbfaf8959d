import { bool, integer, properties, size, string } from '@remora/core';
import type { TypedDevice } from '@remora/pci';
import { MAX_EXT_TSEG_MIB } from './smram-spec.js';

const MIB = 0x10_0000;
const TIB = 2 ** 40;

/** Options of the q35 board. */
export const q35Properties = properties({
  memory: size({ min: MIB, max: TIB, multipleOf: 4096 }, 512 * MIB, 'RAM in bytes; text may end in K, M, G or T'),
  ecam: bool(true, 'ECAM is enabled from the start, as firmware leaves it; off: as the chipset comes out of reset'),
  'extended-tseg-mbytes': integer({ min: 0, max: MAX_EXT_TSEG_MIB }, 16, 'MiB of the extended TSEG; 0: there is none'),
  reserved: string('', 'slots of the root bus that no device is given unless it asks for one: `01 1f`', {
    pattern: /^[0-9a-f]{1,2}( [0-9a-f]{1,2})*$|^$/i,
    expected: 'device numbers, hexadecimal, with spaces between them',
  }),
});
export type Q35Config = ReturnType<typeof q35Properties.parse>;

/** `-machine q35 -m ...` as an object; `memory` in bytes. */
export function q35(options: Partial<Q35Config> = {}): TypedDevice {
  return { driver: 'q35', options: { ...options } };
}
