import { bit, bits, frame, record } from '@remora/bits';

/** Legacy root entry (VT-d 9.1): 256 per table, by bus. */
export const RootEntry = record('vtd.root', 'VT-d 9.1', 16, { p: bit(0), ctp: frame(63, 12) });

/** Scalable-mode root entry (VT-d 9.2): two context tables a bus, for device numbers 0-15 and 16-31. */
export const ScalableRootEntry = record('vtd.sm-root', 'VT-d 9.2', 16, {
  lp: bit(0),
  lctp: frame(63, 12),
  up: bit(64),
  uctp: frame(127, 76),
});

/** Legacy context entry (VT-d 9.3): 256 per table, by device and function. */
export const ContextEntry = record('vtd.context', 'VT-d 9.3', 16, {
  p: bit(0),
  fpd: bit(1),
  tt: bits(3, 2),
  ssptptr: frame(63, 12),
  aw: bits(66, 64),
  /** For software; ignored. */
  avail: bits(70, 67),
  did: bits(87, 72),
});

/** Translation types of a legacy context entry. */
export const TranslationType = {
  /** Untranslated requests through the second stage; others are blocked. */
  UNTRANSLATED: 0,
  /** As UNTRANSLATED, and ATS requests are allowed. */
  ATS: 1,
  PASS_THROUGH: 2,
  RESERVED: 3,
} as const;

/** Scalable-mode context entry (VT-d 9.4): 128 per table. */
export const ScalableContextEntry = record('vtd.sm-context', 'VT-d 9.4', 32, {
  p: bit(0),
  fpd: bit(1),
  /** Device-TLB enable. */
  dte: bit(2),
  /** PASID enable. */
  paside: bit(3),
  /** Page request enable. */
  pre: bit(4),
  /** The directory has 2^(pdts + 7) entries. */
  pdts: bits(11, 9),
  pasiddirptr: frame(63, 12),
  /** The PASID for requests without PASID. */
  ridPasid: bits(83, 64),
  ridPriv: bit(84),
});

/** PASID directory entry (VT-d 9.5), by PASID bits 19:6. */
export const PasidDirectoryEntry = record('vtd.pasid-dir', 'VT-d 9.5', 8, {
  p: bit(0),
  fpd: bit(1),
  smptblptr: frame(63, 12),
});

/** PASID table entry (VT-d 9.6), by PASID bits 5:0. Fields that newer revisions reserve (emt, pwt, pcd, ere) are named. */
export const PasidEntry = record('vtd.pasid', 'VT-d 9.6', 64, {
  p: bit(0),
  fpd: bit(1),
  /** Second-stage width: 1 = 39, 2 = 48, 3 = 57 bits. */
  aw: bits(4, 2),
  pgtt: bits(8, 6),
  ssade: bit(9),
  ssptptr: frame(63, 12),
  did: bits(79, 64),
  pwsnp: bit(87),
  pgsnp: bit(88),
  cd: bit(89),
  emte: bit(90),
  emt: bits(93, 91),
  pwt: bit(94),
  pcd: bit(95),
  pat: bits(127, 96),
  sre: bit(128),
  ere: bit(129),
  /** First-stage paging mode: 0 = 4 levels, 1 = 5 levels. */
  fspm: bits(131, 130),
  wpe: bit(132),
  nxe: bit(133),
  smep: bit(134),
  eafe: bit(135),
  fsptptr: frame(191, 140),
});

/** PASID granular translation types: PasidEntry.pgtt. */
export const Pgtt = { FIRST_STAGE: 1, SECOND_STAGE: 2, NESTED: 3, PASS_THROUGH: 4 } as const;

/** Largest PASID: they have 20 bits. */
export const MAX_PASID = 0xf_ffff;
/** PASID entries in a PASID table, and the shift from a PASID to its directory index. */
export const PASID_TABLE_SHIFT = 6;

/** How many PASIDs a directory of size `pdts` covers. */
export function pasidLimit(pdts: number): number {
  return 2 ** (pdts + 13);
}

/** Levels of a second-stage table for an AW field: 1 -> 3, 2 -> 4, 3 -> 5. */
export function levelsOfWidth(aw: number): number {
  return aw + 2;
}

/** Address bits that `levels` levels translate. */
export function widthOfLevels(levels: number): number {
  return 12 + 9 * levels;
}
