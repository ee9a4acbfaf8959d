import { bit, bits, frame, record, wide } from '@remora/bits';

/** Register offsets (VT-d 11.4). A 64-bit register's high dword is at +4. */
export const Reg = {
  VER: 0x000,
  CAP: 0x008,
  ECAP: 0x010,
  GCMD: 0x018,
  GSTS: 0x01c,
  RTADDR: 0x020,
  CCMD: 0x028,
  FSTS: 0x034,
  FECTL: 0x038,
  FEDATA: 0x03c,
  FEADDR: 0x040,
  FEUADDR: 0x044,
  PMEN: 0x064,
  IQH: 0x080,
  IQT: 0x088,
  IQA: 0x090,
  ICS: 0x09c,
  IECTL: 0x0a0,
  IEDATA: 0x0a4,
  IEADDR: 0x0a8,
  IEUADDR: 0x0ac,
  IQERCD: 0x0b0,
  IRTA: 0x0b8,
  PQH: 0x0c0,
  PQT: 0x0c8,
  PQA: 0x0d0,
  PRS: 0x0dc,
  PECTL: 0x0e0,
  PEDATA: 0x0e4,
  PEADDR: 0x0e8,
  PEUADDR: 0x0ec,
} as const;

/** Bytes of the register window. */
export const WINDOW_BYTES = 0x1000;

/** What VER reads as: major 1, minor 0 (QEMU). */
export const VERSION = 0x10;

/** Capability register (VT-d 11.4.2). */
export const Cap = record('vtd.cap', 'VT-d 11.4.2', 8, {
  /** Number of domains: 2^(4 + 2 * nd). */
  nd: bits(2, 0),
  afl: bit(3),
  rwbf: bit(4),
  plmr: bit(5),
  phmr: bit(6),
  /** Caching mode. */
  cm: bit(7),
  /** Supported second-stage widths: bit 1 = 39, 2 = 48, 3 = 57 bits. */
  sagaw: bits(12, 8),
  /** Maximum guest address width - 1. */
  mgaw: bits(21, 16),
  zlr: bit(22),
  /** Offset of the fault records / 16. */
  fro: wide(33, 24),
  /** Second-stage large pages: bit 0 = 2 MiB, bit 1 = 1 GiB. */
  sslps: bits(37, 34),
  psi: bit(39),
  /** Number of fault records - 1. */
  nfr: bits(47, 40),
  /** Maximum address mask of a page-selective IOTLB invalidation. */
  mamv: bits(53, 48),
  dwd: bit(54),
  drd: bit(55),
  fs1gp: bit(56),
  pi: bit(59),
  fs5lp: bit(60),
  ecmds: bit(61),
  esirtps: bit(62),
  esrtps: bit(63),
});

/** Extended capability register (VT-d 11.4.3). */
export const Ecap = record('vtd.ecap', 'VT-d 11.4.3', 8, {
  c: bit(0),
  qi: bit(1),
  dt: bit(2),
  ir: bit(3),
  eim: bit(4),
  pt: bit(6),
  sc: bit(7),
  /** Offset of the IOTLB registers / 16. */
  iro: bits(17, 8),
  mhmv: bits(23, 20),
  mts: bit(25),
  nest: bit(26),
  prs: bit(29),
  ers: bit(30),
  srs: bit(31),
  nwfs: bit(33),
  eafs: bit(34),
  /** PASID bits - 1. */
  pss: bits(39, 35),
  pasid: bit(40),
  dit: bit(41),
  pds: bit(42),
  smts: bit(43),
  vcs: bit(44),
  ssads: bit(45),
  ssts: bit(46),
  fsts: bit(47),
  smpwcs: bit(48),
  rps: bit(49),
  pms: bit(51),
  adms: bit(52),
  rprivs: bit(53),
});

/** GCMD and GSTS (VT-d 11.4.4): in GSTS a command's bit is its status. */
export const GlobalCommand = {
  TE: 0x8000_0000 | 0,
  SRTP: 0x4000_0000,
  SFL: 0x2000_0000,
  EAFL: 0x1000_0000,
  WBF: 0x0800_0000,
  QIE: 0x0400_0000,
  IRE: 0x0200_0000,
  SIRTP: 0x0100_0000,
  CFI: 0x0080_0000,
} as const;

/** The status bits of GSTS that software carries over into GCMD: all but the one-shot ones. */
export const GSTS_LEVEL_BITS = 0x96ff_ffff | 0;

/** Root table address (VT-d 11.4.5). */
export const RootTableAddress = record('vtd.rtaddr', 'VT-d 11.4.5', 8, { ttm: bits(11, 10), rta: frame(63, 12) });

/** Translation table modes of RTADDR.TTM. */
export const Ttm = { LEGACY: 0, SCALABLE: 1, RESERVED: 2, ABORT: 3 } as const;

/** Context command (VT-d 11.4.6). */
export const ContextCommand = record('vtd.ccmd', 'VT-d 11.4.6', 8, {
  did: bits(15, 0),
  sid: bits(31, 16),
  fm: bits(33, 32),
  /** Granularity that was really performed. */
  caig: bits(60, 59),
  /** Granularity asked for. */
  cirg: bits(62, 61),
  icc: bit(63),
});

/** Invalidate address (VT-d 11.4.7). */
export const InvalidateAddress = record('vtd.iva', 'VT-d 11.4.7', 8, {
  am: bits(5, 0),
  ih: bit(6),
  addr: frame(63, 12),
});

/** IOTLB invalidate (VT-d 11.4.8). */
export const IotlbCommand = record('vtd.iotlb', 'VT-d 11.4.8', 8, {
  did: bits(47, 32),
  dw: bit(48),
  dr: bit(49),
  /** Granularity that was really performed; 0 for a bad request. */
  iaig: bits(58, 57),
  /** Granularity asked for. */
  iirg: bits(61, 60),
  ivt: bit(63),
});

/** Granularities of context-cache and IOTLB invalidation: CCMD.CIRG, IOTLB.IIRG and the descriptors' G. */
export const Granularity = { GLOBAL: 1, DOMAIN: 2, DEVICE: 3, PAGE: 3 } as const;

/** Fault status (VT-d 11.4.9). */
export const FaultStatus = record('vtd.fsts', 'VT-d 11.4.9', 4, {
  pfo: bit(0),
  ppf: bit(1),
  afo: bit(2),
  apf: bit(3),
  iqe: bit(4),
  ice: bit(5),
  ite: bit(6),
  pro: bit(7),
  /** Index of the first pending fault record. */
  fri: bits(15, 8),
});

/** FSTS bits for code that tests and sets several at once. */
export const Fsts = { PFO: 0x01, PPF: 0x02, IQE: 0x10, ICE: 0x20, ITE: 0x40, FRI: 0xff00 } as const;

/** FECTL, IECTL and PECTL (VT-d 11.4.10, 11.4.16, 11.4.27). */
export const EventControl = record('vtd.ectl', 'VT-d 11.4.10', 4, { ip: bit(30), im: bit(31) });

/** Invalidation queue head and tail (VT-d 11.4.12): a byte offset, bits 18:4. */
export const QUEUE_OFFSET_MASK = 0x7_fff0;

/** Invalidation queue address (VT-d 11.4.14). */
export const QueueAddress = record('vtd.iqa', 'VT-d 11.4.14', 8, {
  /** Size: 4096 << qs bytes. */
  qs: bits(2, 0),
  /** Descriptor width: 0 = 128, 1 = 256 bits. */
  dw: bit(11),
  iqa: frame(63, 12),
});

/** Invalidation completion status (VT-d 11.4.15). */
export const CompletionStatus = record('vtd.ics', 'VT-d 11.4.15', 4, { iwc: bit(0) });

/** Invalidation queue error record (VT-d 11.4.20). */
export const QueueErrorRecord = record('vtd.iqercd', 'VT-d 11.4.20', 8, {
  iqei: bits(3, 0),
  itesid: bits(47, 32),
  icesid: bits(63, 48),
});

/** Values of IQERCD.IQEI. */
export const QueueError = {
  NONE: 0,
  INVALID_TAIL: 1,
  FETCH: 2,
  INVALID_TYPE: 3,
  RESERVED_FIELD: 4,
  INVALID_WIDTH: 5,
  MISALIGNED_TAIL: 6,
  INVALID_TTM: 7,
} as const;

/** Interrupt remapping table address (VT-d 11.4.21). */
export const InterruptTableAddress = record('vtd.irta', 'VT-d 11.4.21', 8, {
  /** The table has 2^(s + 1) entries. */
  s: bits(3, 0),
  eime: bit(11),
  irta: frame(63, 12),
});

/** Page request queue head and tail (VT-d 11.4.23): a byte offset, bits 18:5. */
export const PAGE_QUEUE_OFFSET_MASK = 0x7_ffe0;

/** Page request queue address (VT-d 11.4.25). */
export const PageQueueAddress = record('vtd.pqa', 'VT-d 11.4.25', 8, {
  /** Size: 4096 << pqs bytes. */
  pqs: bits(2, 0),
  pqa: frame(63, 12),
});

/** Page request status (VT-d 11.4.26): PPR pending page request, PRO overflow. */
export const Prs = { PPR: 1, PRO: 2 } as const;
