/** Controller registers (NVMe 1.4, 3.1). */
import { bit, bits, record } from '@remora/bits';

/** PCI identity: that of QEMU's controller, so that what is known of one holds for the other. */
export const VENDOR = 0x1b36;
export const DEVICE = 0x0010;
export const SUBSYSTEM_VENDOR = 0x1af4;
export const SUBSYSTEM = 0x1100;
export const REVISION = 0x02;
/** Mass storage, non-volatile memory, NVM Express. */
export const CLASS = 0x010802;

export const REGISTER_BAR = 0;
export const MSIX_BAR = 4;

/** Offsets in BAR 0. */
export const Reg = {
  CAP: 0x00,
  VS: 0x08,
  INTMS: 0x0c,
  INTMC: 0x10,
  CC: 0x14,
  CSTS: 0x1c,
  NSSR: 0x20,
  AQA: 0x24,
  ASQ: 0x28,
  ACQ: 0x30,
  /** Doorbells: of queue q the submission tail at 8 q, the completion head at 8 q + 4. */
  DOORBELLS: 0x1000,
} as const;

/** 1.4.0. */
export const VERSION = 0x0001_0400;

export const Cap = record('nvme.cap', 'NVMe 1.4, 3.1.1', 8, {
  /** Entries of the largest queue, less one. */
  mqes: bits(15, 0),
  /** Queues must be contiguous. */
  cqr: bit(16),
  ams: bits(18, 17),
  /** Longest wait for CSTS.RDY, in 500 ms. */
  to: bits(31, 24),
  dstrd: bits(35, 32),
  nssrs: bit(36),
  /** Bit 0: the NVM command set; bit 6: command sets may be identified. */
  css: bits(44, 37),
  bps: bit(45),
  mpsmin: bits(51, 48),
  mpsmax: bits(55, 52),
  pmrs: bit(56),
  cmbs: bit(57),
});

export const Cc = record('nvme.cc', 'NVMe 1.4, 3.1.5', 4, {
  en: bit(0),
  css: bits(6, 4),
  /** The memory page size is 2^(12 + mps) bytes. */
  mps: bits(10, 7),
  ams: bits(13, 11),
  shn: bits(15, 14),
  /** log2 of an entry's size. */
  iosqes: bits(19, 16),
  iocqes: bits(23, 20),
});

export const Csts = record('nvme.csts', 'NVMe 1.4, 3.1.6', 4, {
  rdy: bit(0),
  cfs: bit(1),
  shst: bits(3, 2),
  nssro: bit(4),
  pp: bit(5),
});

export const Aqa = record('nvme.aqa', 'NVMe 1.4, 3.1.8', 4, {
  /** Entries less one. */
  asqs: bits(11, 0),
  acqs: bits(27, 16),
});

/** CAP.CSS and CC.CSS: command sets that this controller knows. */
export const CSS_NVM = 0x01;
export const CSS_IDENTIFIED = 0x40;
/** Values of CC.CSS. */
export const CommandSets = { NVM: 0, ALL: 6 } as const;

/** CSTS.SHST: shutdown processing complete. */
export const SHUTDOWN_COMPLETE = 2;

/** Pages of 2^12 up to 2^(12 + 4) bytes. */
export const MIN_PAGE_SHIFT = 12;
export const MAX_MPS = 4;

/** log2 of the size of a submission and of a completion queue entry. */
export const SQ_ENTRY_SHIFT = 6;
export const CQ_ENTRY_SHIFT = 4;
