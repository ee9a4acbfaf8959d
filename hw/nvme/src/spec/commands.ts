/** Commands and completions (NVMe 1.4, 4.2, 4.6, 5 and 6). */
import { bit, bits, record, wide } from '@remora/bits';

export const AdminOpcode = {
  DELETE_IO_SQ: 0x00,
  CREATE_IO_SQ: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_IO_CQ: 0x04,
  CREATE_IO_CQ: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT_REQUEST: 0x0c,
  FORMAT_NVM: 0x80,
} as const;

export const IoOpcode = {
  FLUSH: 0x00,
  WRITE: 0x01,
  READ: 0x02,
  COMPARE: 0x05,
  WRITE_ZEROES: 0x08,
  DATASET_MANAGEMENT: 0x09,
  VERIFY: 0x0c,
} as const;

export const ADMIN_NAMES = namesOf(AdminOpcode);
export const IO_NAMES = namesOf(IoOpcode);

/** Names by value, lower case with dashes: `create-io-sq`. */
function namesOf(values: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  return new Map(Object.entries(values).map(([name, value]) => [value, name.toLowerCase().replaceAll('_', '-')]));
}

/** A submission queue entry. */
export const CommandLayout = record('nvme.command', 'NVMe 1.4, 4.2', 64, {
  opcode: bits(7, 0),
  fuse: bits(9, 8),
  /** 0: PRPs. */
  psdt: bits(15, 14),
  cid: bits(31, 16),
  nsid: bits(63, 32),
  cdw2: bits(95, 64),
  cdw3: bits(127, 96),
  mptr: wide(191, 128),
  prp1: wide(255, 192),
  prp2: wide(319, 256),
  cdw10: bits(351, 320),
  cdw11: bits(383, 352),
  cdw12: bits(415, 384),
  cdw13: bits(447, 416),
  cdw14: bits(479, 448),
  cdw15: bits(511, 480),
});

/** A completion queue entry. */
export const CompletionLayout = record('nvme.completion', 'NVMe 1.4, 4.6', 16, {
  result: bits(31, 0),
  /** How far the controller has got in the submission queue. */
  sqhd: bits(79, 64),
  sqid: bits(95, 80),
  cid: bits(111, 96),
  phase: bit(112),
  status: bits(127, 113),
});

/** A range of Dataset Management. */
export const RangeLayout = record('nvme.dsm-range', 'NVMe 1.4, 6.7.1.1', 16, {
  attributes: bits(31, 0),
  blocks: bits(63, 32),
  start: wide(127, 64),
});

export const ALL_NAMESPACES = 0xffff_ffff;

/** Read and Write, dword 12: to the medium before it is done. */
export const FORCE_UNIT_ACCESS = 0x4000_0000;
/** Dataset Management, dword 11. */
export const DSM_DEALLOCATE = 0x4;

/** Create I/O Completion and Submission Queue, dword 11. */
export const QueueFlags = { CONTIGUOUS: 1, INTERRUPTS: 2 } as const;
