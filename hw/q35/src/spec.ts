/**
 * The q35 host bridge (MCH) and its memory map, as far as this board has them. Reference: Intel 3 Series Express Chipset datasheet
 * chapters 4 and 5; addresses as QEMU's q35 uses them.
 */
import { bit, bits, record } from '@remora/bits';
import { QEMU_SUBSYSTEM } from '@remora/pci';

export const HOST_BRIDGE = {
  vendor: 0x8086,
  device: 0x29c0,
  revision: 0,
  classCode: 0x060000,
  ...QEMU_SUBSYSTEM,
} as const;

/** Offset of PCIEXBAR in the host bridge's configuration space. */
export const PCIEXBAR = 0x60;

/** PCI Express register range base address. */
export const Pciexbar = record('q35.pciexbar', '3 Series 5.1.13', 8, {
  enable: bit(0),
  /** Buses: 0 for 256, 1 for 128, 2 for 64. */
  length: bits(2, 1),
  baseLo: bits(31, 26),
  baseHi: bits(35, 32),
});

/** Where firmware puts the ECAM window. */
export const ECAM_BASE = 0xb000_0000;
/** One MiB of configuration space a bus. */
export const ECAM_BUS_BYTES = 0x10_0000;
export const ECAM_BYTES = 256 * ECAM_BUS_BYTES;

/** Configuration mechanism 1 (PCI 3.0 3.2.2.3.2). */
export const CONFIG_ADDRESS_PORT = 0xcf8;
export const CONFIG_PORTS = 8;
/** The word in CONFIG_ADDRESS. `register` keeps all eight bits: the two low ones count too. */
export const ConfigAddress = record('pci.config-address', 'PCI 3.0 3.2.2.3.2', 4, {
  register: bits(7, 0),
  devfn: bits(15, 8),
  bus: bits(23, 16),
  enable: bit(31),
});

/** RAM below 4 GiB: all that is there, up to the ECAM window; a machine with more keeps 2 GiB there and the rest above. */
export const LOW_RAM_ALL = 0xb000_0000;
export const LOW_RAM_SPLIT = 0x8000_0000;
export const FOUR_GIB = 0x1_0000_0000;

/** Where processors write interrupt messages. */
export const MSI_BASE = 0xfee0_0000;
export const MSI_BYTES = 0x10_0000;
