/** Registers of the Data Streaming Accelerator (DSA architecture specification, chapter 9): BAR 0, little-endian. */
import { bit, bits, record } from '@remora/bits';

export const VENDOR = 0x8086;
export const DEVICE = 0x0b25;
/** Base system peripheral, other. */
export const CLASS = 0x088000;
export const REVISION = 0;

export const REGISTER_BAR = 0;
export const PORTAL_BAR = 2;
/** The MSI-X table and pending bits. */
export const MSIX_BAR = 4;
export const REGISTER_BYTES = 0x1_0000;
/** Pages of portals of a work queue: unlimited and limited MSI-X, unlimited and limited IMS (9.3). */
export const PORTAL_PAGES = 4;
export const PAGE = 4096;
export const PASID_BITS = 20;

export const Reg = {
  VERSION: 0x00,
  GENCAP: 0x10,
  WQCAP: 0x20,
  GRPCAP: 0x30,
  ENGCAP: 0x38,
  OPCAP: 0x40,
  OFFSETS: 0x60,
  GENCFG: 0x80,
  GENCTRL: 0x88,
  GENSTS: 0x90,
  INTCAUSE: 0x98,
  CMD: 0xa0,
  CMDSTS: 0xa8,
  CMDCAP: 0xb0,
  SWERR: 0xc0,
} as const;

/** Where our tables are; software finds them by OFFSETS. */
export const Table = { GRPCFG: 0x400, WQCFG: 0x600, MSIXPERM: 0x800, END: 0x900 } as const;
/** What a unit of OFFSETS is worth, in bytes. */
export const TABLE_UNIT = 0x100;
/** Bytes of an entry of each table. */
export const GRPCFG_BYTES = 64;
export const WQCFG_BYTES = 32;
export const MSIXPERM_BYTES = 8;
export const VERSION_1_0 = 0x100;

export const Gencap = record('dsa.gencap', 'DSA 9.2.2', 8, {
  blockOnFault: bit(0),
  overlappingCopy: bit(1),
  cacheControlMemory: bit(2),
  cacheControlCache: bit(3),
  commandCapabilities: bit(4),
  destinationReadback: bit(8),
  drainReadback: bit(9),
  /** log2 of the longest transfer, in bytes. */
  maxTransferShift: bits(20, 16),
  /** log2 of the largest batch, in descriptors. */
  maxBatchShift: bits(24, 21),
  configurable: bit(31),
});

export const Wqcap = record('dsa.wqcap', 'DSA 9.2.3', 8, {
  totalSize: bits(15, 0),
  queues: bits(23, 16),
  /** log2 of the bytes of a WQCFG entry, less 5. */
  configShift: bits(27, 24),
  shared: bit(48),
  dedicated: bit(49),
  ats: bit(50),
  priority: bit(51),
});

export const Grpcap = record('dsa.grpcap', 'DSA 9.2.4', 8, {
  groups: bits(7, 0),
  readBuffers: bits(15, 8),
  readBufferControl: bit(16),
});

export const Offsets = record('dsa.offsets', 'DSA 9.2.7', 16, {
  grpcfg: bits(15, 0),
  wqcfg: bits(31, 16),
  msixperm: bits(47, 32),
  ims: bits(63, 48),
  perfmon: bits(79, 64),
});

export const Genctrl = record('dsa.genctrl', 'DSA 9.2.9', 4, { softwareErrorInterrupt: bit(0), haltInterrupt: bit(1) });

export const Gensts = record('dsa.gensts', 'DSA 9.2.10', 4, { state: bits(1, 0), resetType: bits(3, 2) });

/** Values of Gensts.state. */
export const DeviceState = { DISABLED: 0, ENABLED: 1, DRAINING: 2, HALTED: 3 } as const;

/** Bits of INTCAUSE. */
export const Cause = { SOFTWARE_ERROR: 0x01, COMMAND: 0x02 } as const;

export const Swerr = record('dsa.swerr', 'DSA 9.2.15', 32, {
  valid: bit(0),
  overflow: bit(1),
  descriptorValid: bit(2),
  queueValid: bit(3),
  batch: bit(4),
  /** The access that failed was a write. */
  write: bit(5),
  privileged: bit(6),
  error: bits(15, 8),
  queue: bits(23, 16),
  operation: bits(39, 32),
  pasid: bits(59, 40),
  batchIndex: bits(79, 64),
  invalidFlags: bits(127, 96),
  addressLo: bits(159, 128),
  addressHi: bits(191, 160),
});

/** An entry of GRPCFG: which work queues (256 bits) and engines (64 bits), then flags. */
export const GroupConfig = record('dsa.grpcfg', 'DSA 9.2.21', GRPCFG_BYTES, {
  queues: bits(31, 0),
  engines: bits(287, 256),
  trafficClassA: bits(322, 320),
  trafficClassB: bits(325, 323),
  useReadBufferLimit: bit(327),
  readBuffersReserved: bits(335, 328),
  readBuffersAllowed: bits(347, 340),
});

export const QueueConfig = record('dsa.wqcfg', 'DSA 9.2.22', WQCFG_BYTES, {
  size: bits(15, 0),
  threshold: bits(47, 32),
  dedicated: bit(64),
  blockOnFault: bit(65),
  atsDisable: bit(66),
  priority: bits(71, 68),
  pasid: bits(91, 72),
  pasidEnable: bit(92),
  privileged: bit(93),
  maxTransferShift: bits(100, 96),
  maxBatchShift: bits(104, 101),
  state: bits(223, 222),
});

/** Values of QueueConfig.state. */
export const QueueState = { DISABLED: 0, ENABLED: 1, BUSY: 2 } as const;

export const MsixPermission = record('dsa.msixperm', 'DSA 9.2.20', MSIXPERM_BYTES, {
  ignore: bit(2),
  pasidEnable: bit(3),
  pasid: bits(31, 12),
});
