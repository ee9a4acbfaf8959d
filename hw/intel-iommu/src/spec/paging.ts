import { bit, bits, frame, record } from '@remora/bits';

/** A second-stage paging entry (VT-d 9.8). Which bits are reserved depends on the level: see the walker. */
export const SecondStageEntry = record('vtd.ss-pte', 'VT-d 9.8', 8, {
  r: bit(0),
  w: bit(1),
  x: bit(2),
  emt: bits(5, 3),
  ipat: bit(6),
  ps: bit(7),
  a: bit(8),
  d: bit(9),
  snp: bit(11),
  addr: frame(51, 12),
});

/** A first-stage paging entry (VT-d 9.7): IA-32e. */
export const FirstStageEntry = record('vtd.fs-pte', 'VT-d 9.7', 8, {
  p: bit(0),
  rw: bit(1),
  us: bit(2),
  pwt: bit(3),
  pcd: bit(4),
  a: bit(5),
  d: bit(6),
  ps: bit(7),
  g: bit(8),
  ea: bit(10),
  addr: frame(51, 12),
  xd: bit(63),
});

/** Bits of the low dword of a second-stage entry. */
export const Ss = { R: 0x1, W: 0x2, X: 0x4, PS: 0x80, A: 0x100, D: 0x200, SNP: 0x800 } as const;

/** Bits of the low dword of a first-stage entry; XD is in the high one. */
export const Fs = { P: 0x1, RW: 0x2, US: 0x4, A: 0x20, D: 0x40, PS: 0x80, EA: 0x400, XD_HI: 0x8000_0000 | 0 } as const;

/** The interrupt address range (VT-d 3.14): the megabyte at 0xFEE00000, below 4 GiB only. */
export const INTERRUPT_RANGE_BASE = 0xfee0_0000;
export const INTERRUPT_RANGE_BYTES = 0x10_0000;
