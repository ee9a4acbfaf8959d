import { bit, bits, frame, record } from '@remora/bits';

/**
 * Invalidation queue descriptors (VT-d 6.5.2). All are declared as 256 bits; in a queue of 128-bit descriptors the upper half reads
 * as 0. The type is bits 3:0, extended by bits 11:9 (`typeHigh`).
 */
const BYTES = 32;
const type = { type: bits(3, 0), typeHigh: bits(11, 9) } as const;

export const DescriptorType = {
  CONTEXT_CACHE: 1,
  IOTLB: 2,
  DEVICE_TLB: 3,
  INTERRUPT_ENTRY_CACHE: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEVICE_TLB: 8,
  PAGE_GROUP_RESPONSE: 9,
} as const;

export const ContextCacheDescriptor = record('vtd.inv-context', 'VT-d 6.5.2.1', BYTES, {
  ...type,
  g: bits(5, 4),
  did: bits(31, 16),
  sid: bits(47, 32),
  fm: bits(49, 48),
});

export const IotlbDescriptor = record('vtd.inv-iotlb', 'VT-d 6.5.2.3', BYTES, {
  ...type,
  g: bits(5, 4),
  dw: bit(6),
  dr: bit(7),
  did: bits(31, 16),
  am: bits(69, 64),
  ih: bit(70),
  addr: frame(127, 76),
});

export const DeviceTlbDescriptor = record('vtd.inv-device-tlb', 'VT-d 6.5.2.5', BYTES, {
  ...type,
  /** Physical function for throttling, bits 3:0; reserved unless ECAP.DIT. */
  pfsidLow: bits(15, 12),
  mip: bits(20, 16),
  sid: bits(47, 32),
  pfsidHigh: bits(63, 52),
  /** 1: the range is coded in the address. */
  s: bit(64),
  addr: frame(127, 76),
});

export const InterruptEntryCacheDescriptor = record('vtd.inv-iec', 'VT-d 6.5.2.7', BYTES, {
  ...type,
  g: bit(4),
  im: bits(31, 27),
  iidx: bits(47, 32),
});

export const WaitDescriptor = record('vtd.inv-wait', 'VT-d 6.5.2.8', BYTES, {
  ...type,
  /** Completion interrupt. */
  if: bit(4),
  /** Status write. */
  sw: bit(5),
  /** Fence. */
  fn: bit(6),
  /** Page request drain; reserved unless ECAP.PDS. */
  pd: bit(7),
  statusData: bits(63, 32),
  /** Status address, bits 31:2. */
  statusAddressLow: bits(95, 66),
  statusAddressHigh: bits(127, 96),
});

export const PasidIotlbDescriptor = record('vtd.inv-pasid-iotlb', 'VT-d 6.5.2.4', BYTES, {
  ...type,
  g: bits(5, 4),
  did: bits(31, 16),
  pasid: bits(51, 32),
  am: bits(69, 64),
  ih: bit(70),
  addr: frame(127, 76),
});

/** Granularities of a PASID-based IOTLB invalidation. */
export const PasidIotlbGranularity = { PASID: 2, PAGE: 3 } as const;

export const PasidCacheDescriptor = record('vtd.inv-pasid-cache', 'VT-d 6.5.2.2', BYTES, {
  ...type,
  g: bits(5, 4),
  did: bits(31, 16),
  pasid: bits(51, 32),
});

/** Granularities of a PASID-cache invalidation. */
export const PasidCacheGranularity = { DOMAIN: 0, PASID: 1, GLOBAL: 3 } as const;

export const PasidDeviceTlbDescriptor = record('vtd.inv-pasid-device-tlb', 'VT-d 6.5.2.6', BYTES, {
  type: bits(3, 0),
  mip: bits(8, 4),
  typeHigh: bits(11, 9),
  pfsidLow: bits(15, 12),
  sid: bits(31, 16),
  pasid: bits(51, 32),
  pfsidHigh: bits(63, 52),
  /** All PASIDs of the device. */
  g: bit(64),
  s: bit(75),
  addr: frame(127, 76),
});

export const PageGroupResponseDescriptor = record('vtd.page-response', 'VT-d 7.7.1', BYTES, {
  ...type,
  /** The request had a PASID. */
  pp: bit(4),
  rc: bits(15, 12),
  rid: bits(31, 16),
  pasid: bits(51, 32),
  lpig: bit(66),
  prgi: bits(75, 67),
});
