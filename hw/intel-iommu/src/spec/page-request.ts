import { bit, bits, frame, record } from '@remora/bits';

/** Bytes of a page request queue descriptor. */
export const PAGE_REQUEST_BYTES = 32;
export const PAGE_REQUEST_TYPE = 1;

/** Page request descriptor (VT-d 7.4.1.1): what the unit writes into the page request queue. Private data is not offered. */
export const PageRequestDescriptor = record('vtd.page-request', 'VT-d 7.4.1.1', PAGE_REQUEST_BYTES, {
  type: bits(7, 0),
  /** The request has a PASID. */
  pp: bit(8),
  rid: bits(31, 16),
  pasid: bits(51, 32),
  /** Execute requested. */
  exr: bit(52),
  /** Privileged mode. */
  pmr: bit(53),
  rd: bit(64),
  wr: bit(65),
  /** Last request of its group. */
  lpig: bit(66),
  prgi: bits(75, 67),
  addr: frame(127, 76),
});
