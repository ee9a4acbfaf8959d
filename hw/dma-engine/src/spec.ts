/** Registers of the dma-engine: 4 KiB in BAR 0, 4-byte accesses. See README.md for the table. */
import { bit, bits, record } from '@remora/bits';

/**
 * Ids of our own. Vendor 1f1f was in no list of assigned vendors when it was chosen; it claims no relation to any company.
 */
export const VENDOR = 0x1f1f;
export const DEVICE = 0xd0e0;
/** Base system peripheral, DMA controller, other. */
export const CLASS = 0x080100;
export const REVISION = 1;

export const BAR_BYTES = 4096;
/** The MSI-X table and pending bits are in this BAR. */
export const MSIX_BAR = 2;
/** 'DMAE', little-endian. */
export const IDENTIFICATION = 0x4541_4d44;
/** The longest transfer of one command, in bytes. Ours, so that a guest cannot make one access run for minutes. */
export const MAX_LENGTH = 0x10_0000;
export const PASID_BITS = 20;

/** Register offsets. */
export const Reg = {
  ID: 0x00,
  CTRL: 0x04,
  STATUS: 0x08,
  LEN: 0x0c,
  SRC_LO: 0x10,
  SRC_HI: 0x14,
  DST_LO: 0x18,
  DST_HI: 0x1c,
  PASID: 0x20,
  PATTERN: 0x24,
  FAIL_LO: 0x28,
  FAIL_HI: 0x2c,
  MOVED: 0x30,
  MAX_LEN: 0x34,
} as const;

/** A write with `start` set runs the command. */
export const Ctrl = record('dma-engine.ctrl', 'README: CTRL', 4, {
  start: bit(0),
  command: bits(3, 1),
  interrupt: bit(8),
});

export const Operation = { COPY: 0, FILL: 1 } as const;

export const StatusWord = record('dma-engine.status', 'README: STATUS', 4, {
  busy: bit(0),
  done: bit(1),
  error: bits(7, 4),
  /** MemTx result of the access that failed. */
  result: bits(10, 8),
  /** Whether that access was a write. */
  failedWrite: bit(12),
});

/** Values of StatusWord.error. */
export const EngineError = {
  NONE: 0,
  /** LEN is 0 or above MAX_LEN. */
  LENGTH: 1,
  /** No such command. */
  COMMAND: 2,
  /** A range runs beyond 2^64. */
  ADDRESS: 3,
  /** Memory refused a read or a write: see `result`, `failedWrite` and FAIL. */
  MEMORY: 4,
  /** A page was requested, and refused or not there after all: see `failedWrite` and FAIL. */
  PAGE: 5,
} as const;

/** Who the requests claim to come from. */
export const PasidWord = record('dma-engine.pasid', 'README: PASID', 4, {
  pasid: bits(19, 0),
  execute: bit(29),
  privileged: bit(30),
  valid: bit(31),
});
