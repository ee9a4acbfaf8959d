/**
 * The memory that the host bridge keeps for system management mode. Reference: Intel 3 Series Express Chipset datasheet 5.1.29 and
 * 5.1.30; EXT_TSEG and F_SMBASE, which that chipset has not, as QEMU's q35 offers them.
 */
import { bit, bits, record } from '@remora/bits';

/** Offset of the extended TSEG's size in MiB, 16 bits: it is told out of reset, and after all ones were written. */
export const EXT_TSEG = 0x50;
/** Offset of the registers below. */
export const SMRAM_REGISTERS = 0x9c;

/** F_SMBASE at 9c, SMRAM at 9d, ESMRAMC at 9e; nothing at 9f. */
export const SmramRegisters = record('q35.smram', '3 Series 5.1.29, 5.1.30', 4, {
  /** SMRAM at the processor's default SMBASE: offered, locked. */
  smbase: bits(7, 0),
  /** Where compatible SMRAM lies: always 2, that is a0000h. */
  base: bits(10, 8),
  /** G_SMRAME: there is SMRAM. */
  global: bit(11),
  /** D_LCK: everything is as it is until the next reset. */
  lock: bit(12),
  closed: bit(13),
  open: bit(14),
  tsegEnable: bit(16),
  tsegSize: bits(18, 17),
  /** Always 7: SMRAM is cached. */
  caches: bits(21, 19),
  error: bit(22),
  /** H_SMRAME */
  high: bit(23),
});
export const SMRAM_AT_RESET = { base: 2, caches: 7 } as const;
export const SMRAM_WRITABLE = {
  smbase: 0xff,
  global: 1,
  lock: 1,
  closed: 1,
  open: 1,
  tsegEnable: 1,
  tsegSize: 3,
  high: 1,
} as const;

/** MiB of TSEG by size code; the last code means the extended one. */
export const TSEG_MIB = [1, 2, 8] as const;

/** Answers in F_SMBASE: the feature was asked for, and is there; it is in force. */
export const Smbase = { QUERY: 0xff, OFFERED: 0x01, LOCKED: 0x02 } as const;
export const EXT_TSEG_QUERY = 0xffff;
export const MAX_EXT_TSEG_MIB = 0xfff;

/** What F_SMBASE hides. */
export const SMBASE_AT = 0x3_0000;
export const SMBASE_BYTES = 0x2_0000;
/** Compatible SMRAM. Unless it is open, what the PCI bus has there shows instead: a VGA adapter's window. */
export const COMPATIBLE_AT = 0xa_0000;
export const COMPATIBLE_BYTES = 0x2_0000;
