import { bool, integer, properties, size, string } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';

/** Of QEMU's `nvme` and `nvme-ns`, by their names; `file`, `size` and `readonly` stand for its `-drive`. */
export const nvmeProperties = properties({
  serial: string(undefined, 'serial number, up to 20 characters of ASCII; by default the id', {
    pattern: /^[\x20-\x7e]{1,20}$/,
    expected: 'a serial number: 1 to 20 characters of ASCII',
  }),
  file: string(undefined, 'file that holds the namespace; without it, it is in memory'),
  size: size({}, undefined, 'size of the namespace: of memory, 64M by default and none if 0; of a file, its own'),
  readonly: bool(false, 'the namespace is write protected, and its file only read'),
  logical_block_size: integer({ oneOf: [512, 4096] }, 512, 'bytes of a logical block'),
  max_ioqpairs: integer({ min: 1, max: 0xffff }, 64, 'most I/O queue pairs'),
  mqes: integer({ min: 1, max: 0xffff }, 0x7ff, 'entries of the largest queue, less one'),
  mdts: integer({ min: 1, max: 13 }, 7, 'the longest transfer is 2^mdts pages of 4096 bytes'),
  aerl: integer({ max: 0xff }, 3, 'asynchronous event requests that may be outstanding, less one'),
  aer_max_queued: integer({ max: 0xffff }, 64, 'asynchronous events that are kept until the host asks for them'),
  msi: bool(true, 'the MSI capability, with up to 32 vectors'),
  msix: bool(true, 'the MSI-X capability'),
  msix_qsize: integer({ min: 1, max: 2048 }, 65, 'vectors of MSI-X'),
});
export type NvmeConfig = ReturnType<typeof nvmeProperties.parse>;

/** Options of an NVMe controller. */
export type NvmeOptions = PciPlacement & { readonly [K in keyof NvmeConfig]?: NvmeConfig[K] | string };

/** `-device nvme` as an object. */
export function nvme(options: NvmeOptions = {}): TypedDevice {
  return { driver: 'nvme', options: { ...options } };
}
