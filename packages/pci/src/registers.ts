/**
 * Offsets and bits of PCI configuration space. Reference: PCI Local Bus 3.0 chapter 6, PCI-to-PCI Bridge 1.2 chapter 3,
 * PCI Express Base 5.0 chapters 7.5 to 7.8.
 */

/** Configuration register offsets: those of every function, then those of type 0, then those of type 1. */
export const Config = {
  VENDOR: 0x00,
  DEVICE: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  CLASS: 0x09,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY: 0x0d,
  HEADER_TYPE: 0x0e,
  BIST: 0x0f,
  BAR0: 0x10,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,

  SUBSYSTEM_VENDOR: 0x2c,
  SUBSYSTEM: 0x2e,

  PRIMARY_BUS: 0x18,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  IO_BASE: 0x1c,
  IO_LIMIT: 0x1d,
  SECONDARY_STATUS: 0x1e,
  MEMORY_BASE: 0x20,
  MEMORY_LIMIT: 0x22,
  PREFETCH_BASE: 0x24,
  PREFETCH_LIMIT: 0x26,
  PREFETCH_BASE_UPPER: 0x28,
  PREFETCH_LIMIT_UPPER: 0x2c,
  BRIDGE_CONTROL: 0x3e,
} as const;

/** Size of a conventional function's configuration space, and where the extended part of an Express function begins. */
export const CONFIG_BYTES = 0x100;
/** Size of a PCI Express function's configuration space. */
export const EXTENDED_CONFIG_BYTES = 0x1000;

/** Bits of the COMMAND register. */
export const Command = {
  IO: 0x0001,
  MEMORY: 0x0002,
  MASTER: 0x0004,
  PARITY: 0x0040,
  SERR: 0x0100,
  INTX_DISABLE: 0x0400,
} as const;

/** Bits of the STATUS register. */
export const Status = {
  /** The function asserts INTx, whether COMMAND lets that out or not. */
  INTERRUPT: 0x0008,
  CAPABILITIES: 0x0010,
  /** All error bits: write 1 to clear. */
  ERRORS: 0xf900,
} as const;

/** Bits of BRIDGE_CONTROL. */
export const BridgeControl = {
  PARITY: 0x0001,
  SERR: 0x0002,
  BUS_RESET: 0x0040,
} as const;

export const HEADER_MULTI_FUNCTION = 0x80;

/** Subsystem of QEMU's own functions of type 0 that have no other (https://www.qemu.org/docs/master/specs/pci-ids.html). */
export const QEMU_SUBSYSTEM = { subsystemVendor: 0x1af4, subsystem: 0x1100 } as const;

/** Capability ids, offsets 0x40 to 0xff. */
export const Capability = { MSI: 0x05, VENDOR: 0x09, SUBSYSTEM: 0x0d, EXPRESS: 0x10, MSIX: 0x11 } as const;

/** Extended capability ids, offsets 0x100 to 0xfff. */
export const ExtendedCapability = { AER: 0x0001, ATS: 0x000f, PRI: 0x0013, PASID: 0x001b } as const;

/** Device/port type of the PCI Express capability (PCIe 7.5.3.2). */
export const ExpressType = {
  ENDPOINT: 0x0,
  LEGACY_ENDPOINT: 0x1,
  ROOT_PORT: 0x4,
  UPSTREAM_PORT: 0x5,
  DOWNSTREAM_PORT: 0x6,
  /** PCI Express to PCI bridge. */
  PCI_BRIDGE: 0x7,
  INTEGRATED_ENDPOINT: 0x9,
} as const;
export type ExpressType = (typeof ExpressType)[keyof typeof ExpressType];
