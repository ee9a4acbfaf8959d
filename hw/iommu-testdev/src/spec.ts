/**
 * Register interface of QEMU's iommu-testdev, a public interface documented at
 * https://www.qemu.org/docs/master/specs/iommu-testdev.html: 4-byte accesses to BAR 0.
 */
import { bit, bits, record } from '@remora/bits';

export const VENDOR = 0x1b36;
export const DEVICE = 0x0005;
/** Unclassified, of no particular kind. */
export const CLASS = 0x00ff00;
export const BAR_BYTES = 4096;

/** Register offsets. */
export const Reg = {
  /** A read runs the armed DMA and returns 0. */
  TRIGGERING: 0x00,
  GVA_LO: 0x04,
  GVA_HI: 0x08,
  LEN: 0x0c,
  RESULT: 0x10,
  DBELL: 0x14,
  ATTRS: 0x18,
  GPA_LO: 0x1c,
  GPA_HI: 0x20,
} as const;

export const Doorbell = record('iommu-testdev.dbell', 'iommu-testdev', 4, { arm: bit(0) });

export const Attributes = record('iommu-testdev.attrs', 'iommu-testdev', 4, {
  secure: bit(0),
  space: bits(2, 1),
  valid: bit(3),
});

/** Values of Attributes.space that the device knows. */
export const Space = { SECURE: 0, NONSECURE: 1 } as const;

/** Values of RESULT. */
export const Result = {
  OK: 0,
  IDLE: 0xffff_ffff,
  ARMED: 0xffff_fffe,
  BAD_LENGTH: 0xdead_0001,
  WRITE_FAILED: 0xdead_0002,
  READ_FAILED: 0xdead_0003,
  MISMATCH: 0xdead_0004,
  NOT_ARMED: 0xdead_0005,
  BAD_ATTRIBUTES: 0xdead_0006,
} as const;

/** What the DMA writes, little-endian, again and again. */
export const PATTERN = 0x1234_5678;

/** Our bound on LEN, so that a guest cannot make one access run for minutes; longer is BAD_LENGTH. */
export const MAX_LENGTH = 0x10_0000;
