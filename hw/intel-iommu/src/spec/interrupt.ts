import { bit, bits, record, wide } from '@remora/bits';

/** Bits 31:20 of the address of every interrupt request and message. */
export const INTERRUPT_ADDRESS = 0xfee;

/** An interrupt request: the low dword of its address, then its data (VT-d 5.1.2). Reserved bits count only with `shv`. */
export const InterruptRequest = record('vtd.interrupt-request', 'VT-d 5.1.2.2', 8, {
  ignored: bits(1, 0),
  handleHigh: bit(2),
  /** The subhandle is valid: it is added to the handle. */
  shv: bit(3),
  /** 1 remappable, 0 compatibility format. */
  format: bit(4),
  handleLow: bits(19, 5),
  head: bits(31, 20),
  subhandle: bits(47, 32),
});

/** A message as processors take it: the low dword of its address, then its data. */
export const InterruptMessage = record('vtd.interrupt-message', 'VT-d 5.1.8', 8, {
  dm: bit(2),
  rh: bit(3),
  destination: bits(19, 12),
  head: bits(31, 20),
  vector: bits(39, 32),
  dlm: bits(42, 40),
  /** Level triggered messages assert. */
  assert: bit(46),
  tm: bit(47),
});

/** Both formats of an IRTE. */
const common = {
  p: bit(0),
  fpd: bit(1),
  /** For software. */
  avail: bits(11, 8),
  /** 0 remapped, 1 posted. */
  im: bit(15),
  v: bits(23, 16),
  sid: bits(79, 64),
  sq: bits(81, 80),
  svt: bits(83, 82),
} as const;

const remapped = {
  ...common,
  /** Destination mode: 1 logical. */
  dm: bit(2),
  /** Redirection hint. */
  rh: bit(3),
  /** Trigger mode: 1 level. */
  tm: bit(4),
  dlm: bits(7, 5),
} as const;

/** Interrupt remapping table entry, remapped format, with 32-bit destinations (IRTA.EIME). */
export const InterruptEntry = record('vtd.irte', 'VT-d 9.10', 16, { ...remapped, dst: bits(63, 32) });

/** The same without EIME: 8-bit destinations. */
export const XapicInterruptEntry = record('vtd.irte-xapic', 'VT-d 9.10', 16, { ...remapped, dst: bits(47, 40) });

/** Interrupt remapping table entry, posted format. */
export const PostedInterruptEntry = record('vtd.irte-posted', 'VT-d 9.11', 16, {
  ...common,
  urg: bit(14),
  /** Posted descriptor address, bits 31:6. */
  pdaLow: bits(63, 38),
  pdaHigh: bits(127, 96),
});

/** Source validation of an IRTE. */
export const SourceValidation = { NONE: 0, SOURCE: 1, BUS: 2, RESERVED: 3 } as const;
/** By SQ: the requester id bits that SourceValidation.SOURCE compares. */
export const SOURCE_MASKS = [0xffff, 0xfffb, 0xfff9, 0xfff8] as const;

/** By bit: the delivery modes that an IRTE may name. 3 and 6 are reserved. */
export const DELIVERY_MODES = 0b1011_0111;

const posted = {
  /** Requested interrupts, by vector. */
  pir0: wide(63, 0),
  pir1: wide(127, 64),
  pir2: wide(191, 128),
  pir3: wide(255, 192),
  /** A notification is outstanding. */
  on: bit(256),
  /** Only urgent interrupts notify. */
  sn: bit(257),
  nv: bits(279, 272),
} as const;

/** Posted interrupt descriptor, with 32-bit destinations. Aligned to its size. */
export const PostedDescriptor = record('vtd.posted', 'VT-d 9.12', 64, { ...posted, ndst: bits(319, 288) });

/** The same with 8-bit destinations. */
export const XapicPostedDescriptor = record('vtd.posted-xapic', 'VT-d 9.12', 64, { ...posted, ndst: bits(303, 296) });
