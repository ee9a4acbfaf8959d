/** Where programs have their things: 64 MiB of memory, DMA devices in slots 2 to 4, the remapping unit where q35 has it. */
export const REGISTERS = 0xfed9_0000;

/** Who can be told to transfer; the last is not in every QEMU. */
export const DEVICES = {
  edu: { slot: 2, bar: 0xe000_0000 },
  'second-edu': { slot: 3, bar: 0xe010_0000 },
  'iommu-testdev': { slot: 4, bar: 0xe020_0000 },
} as const;
export type DeviceName = keyof typeof DEVICES;
export const EDUS = ['edu', 'second-edu'] as const;

/** Bus 0, function 0. */
export function requesterOf(device: DeviceName): number {
  return DEVICES[device].slot << 3;
}

/** What programs give the first device, and some give all; and what the others have else. */
export const DOMAIN = 5;
export const OTHER_DOMAIN = 4;

export const TABLES = 0x10_0000;
export const ROOT = TABLES;
export const CONTEXTS = TABLES + 0x1000;
export const PASID_DIRECTORY = TABLES + 0x2000;
export const PASID_TABLE = TABLES + 0x3000;
/** Paging tables: the root, then one a level; the last has the leaves. */
export const PAGING = TABLES + 0x4000;
export const QUEUE = TABLES + 0x8000;
export const QUEUE_BYTES = 0x1000;
export const STATUS_PAGE = TABLES + 0xa000;
/** Further PASID directories and tables: a page each for the second and third device. */
export const OTHER_DIRECTORIES = TABLES + 0xb000;
export const OTHER_PASID_TABLES = TABLES + 0xd000;
export const TABLES_BYTES = 0xf000;

/** A page for each edu. */
export const BUFFER_IMAGE = 0x12_0000;
/** Aligned as a page of 2 MiB is. */
export const TARGET = 0x20_0000;
export const TARGET_PAGES = 4;

/** In the device's buffer: first what is written, then as much to read into. */
export const PATTERN_BYTES = 0x800;
export const SLOT_BYTES = 16;
