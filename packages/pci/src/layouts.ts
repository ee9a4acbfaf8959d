/** Layouts of the capabilities that functions here carry, each from its header on. */
import { bit, bits, record } from '@remora/bits';

/** MSI with 64-bit addresses and per-vector masking. */
export const MsiLayout = record('pci.msi', 'PCI 3.0 6.8.1', 24, {
  id: bits(7, 0),
  next: bits(15, 8),
  enable: bit(16),
  /** log2 of the vectors that the function can use. */
  capable: bits(19, 17),
  /** log2 of the vectors that software granted. */
  granted: bits(22, 20),
  wide: bit(23),
  maskable: bit(24),
  addressLo: bits(63, 32),
  addressHi: bits(95, 64),
  data: bits(111, 96),
  mask: bits(159, 128),
  pending: bits(191, 160),
});

export const MsixLayout = record('pci.msix', 'PCI 3.0 6.8.2', 12, {
  id: bits(7, 0),
  next: bits(15, 8),
  /** Number of vectors - 1. */
  last: bits(26, 16),
  functionMask: bit(30),
  enable: bit(31),
  tableBar: bits(34, 32),
  /** In units of 8 bytes. */
  tableOffset: bits(63, 35),
  pbaBar: bits(66, 64),
  /** In units of 8 bytes. */
  pbaOffset: bits(95, 67),
});

/** One entry of the MSI-X table, in a BAR. */
export const MsixEntry = record('pci.msix-entry', 'PCI 3.0 6.8.2.6', 16, {
  addressLo: bits(31, 0),
  addressHi: bits(63, 32),
  data: bits(95, 64),
  masked: bit(96),
});

/** The PCI Express capability, version 2, up to and including the slot and root registers. */
export const ExpressLayout = record('pci.express', 'PCIe 7.5.3', 60, {
  id: bits(7, 0),
  next: bits(15, 8),
  version: bits(19, 16),
  type: bits(23, 20),
  slot: bit(24),
  maxPayload: bits(34, 32),
  extendedTag: bit(37),
  roleBasedErrors: bit(47),
  functionLevelReset: bit(60),
  controlErrors: bits(67, 64),
  relaxedOrdering: bit(68),
  payload: bits(71, 69),
  extendedTagEnable: bit(72),
  noSnoop: bit(75),
  readRequest: bits(78, 76),
  initiateFlr: bit(79),
  linkSpeed: bits(99, 96),
  linkWidth: bits(105, 100),
  port: bits(127, 120),
  currentSpeed: bits(147, 144),
  currentWidth: bits(153, 148),
  /** Device Capabilities 2: TLP prefixes pass from end to end, as requests with PASID have them; and how many. */
  endToEndPrefixes: bit(309),
  maxEndToEndPrefixes: bits(311, 310),
});

/** PASID extended capability. */
export const PasidLayout = record('pci.pasid', 'PCIe 7.8.9', 8, {
  header: bits(31, 0),
  executeSupported: bit(33),
  privilegedSupported: bit(34),
  width: bits(44, 40),
  enable: bit(48),
  executeEnable: bit(49),
  privilegedEnable: bit(50),
});

/** Address translation services. */
export const AtsLayout = record('pci.ats', 'PCIe 10.5.1', 8, {
  header: bits(31, 0),
  /** Invalidate requests that the function can take; 0 for 32. */
  queueDepth: bits(36, 32),
  /** Untranslated addresses of translation requests are aligned to 4 KiB. */
  pageAligned: bit(37),
  globalInvalidate: bit(38),
  /** Smallest translation unit: 4096 << stu bytes. */
  stu: bits(52, 48),
  enable: bit(63),
});

/** Page request interface. */
export const PriLayout = record('pci.pri', 'PCIe 10.5.2', 16, {
  header: bits(31, 0),
  enable: bit(32),
  /** Forgets what is outstanding; reads 0, and does nothing while enabled. */
  reset: bit(33),
  /** Write 1 to clear, as the next one. */
  responseFailure: bit(48),
  unexpectedIndex: bit(49),
  /** Nothing is outstanding any more; means something only while not enabled. */
  stopped: bit(56),
  /** A response to a request with PASID needs that PASID. */
  responsePasidRequired: bit(63),
  /** Page requests that the function could have outstanding. */
  capacity: bits(95, 64),
  /** Page requests that it may have outstanding. */
  allocation: bits(127, 96),
});
