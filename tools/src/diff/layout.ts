/** Where programs have their things: 64 MiB of memory, edu in slot 2, the remapping unit where q35 has it. */
export const REGISTERS = 0xfed9_0000;
export const BAR = 0xe000_0000;
/** Bus 0, device 2, function 0. */
export const REQUESTER = 0x10;
/** What programs give the requester. */
export const DOMAIN = 5;

export const TABLES = 0x10_0000;
export const ROOT = TABLES;
export const CONTEXTS = TABLES + 0x1000;
export const PASID_DIRECTORY = TABLES + 0x2000;
export const PASID_TABLE = TABLES + 0x3000;
/** Paging tables: the root, then one a level; the last has the leaves. */
export const PAGING = TABLES + 0x4000;
export const QUEUE = TABLES + 0x8000;
export const STATUS_PAGE = TABLES + 0xa000;
export const TABLES_BYTES = 0xb000;

export const BUFFER_IMAGE = 0x12_0000;
/** Aligned as a page of 2 MiB is. */
export const TARGET = 0x20_0000;
export const TARGET_PAGES = 4;

/** In the device's buffer: first what is written, then as much to read into. */
export const PATTERN_BYTES = 0x800;
export const SLOT_BYTES = 16;
