/** The I/O APIC: 82093AA datasheet chapter 3, with the EOI register of version 0x20 (ICH9 13.5). */
import { bit, bits, record } from '@remora/bits';

export const IOAPIC_BASE = 0xfec0_0000;
export const IOAPIC_BYTES = 0x1000;
export const IOAPIC_PINS = 24;
export const IOAPIC_VERSION = 0x20;
/** ff:00.0: in whose name interrupts arrive at a remapping unit; the DMAR table says so (QEMU's choice). */
export const IOAPIC_REQUESTER = 0xff00;

/** Offsets in the window. */
export const IoApicOffset = { SELECT: 0x00, DATA: 0x10, EOI: 0x40 } as const;

/** Registers behind SELECT and DATA; each pin has two, from REDIRECTION on. */
export const IoApicRegister = { ID: 0x00, VERSION: 0x01, ARBITRATION: 0x02, REDIRECTION: 0x10 } as const;

export const IoApicId = record('ioapic.id', '82093AA 3.2.1', 4, { id: bits(27, 24) });

export const IoApicVersion = record('ioapic.version', '82093AA 3.2.2', 4, { version: bits(7, 0), last: bits(23, 16) });

/** What both formats of a redirection table entry share. */
const common = {
  vector: bits(7, 0),
  status: bit(12),
  polarity: bit(13),
  /** A level triggered interrupt was sent and not yet ended. */
  remoteIrr: bit(14),
  /** 1 level, 0 edge. */
  trigger: bit(15),
  mask: bit(16),
} as const;

/** Redirection table entry, compatibility format. */
export const RedirectionEntry = record('ioapic.redirection', '82093AA 3.2.4', 8, {
  ...common,
  dlm: bits(10, 8),
  dm: bit(11),
  /** 1: remappable format. */
  format: bit(48),
  destination: bits(63, 56),
});

/** Redirection table entry, remappable format (VT-d 5.1.5.1). */
export const RemappableRedirectionEntry = record('ioapic.redirection-remappable', 'VT-d 5.1.5.1', 8, {
  ...common,
  indexHigh: bit(11),
  format: bit(48),
  indexLow: bits(63, 49),
});

/** What the I/O APIC writes: the low dword of the address, then the data. */
export const IoApicMessage = record('ioapic.message', 'VT-d 5.1.2', 8, {
  dm: bit(2),
  destination: bits(19, 12),
  head: bits(31, 20),
  vector: bits(39, 32),
  dlm: bits(42, 40),
  assert: bit(46),
  trigger: bit(47),
});

/** The same in remappable format, without subhandle. */
export const RemappableIoApicMessage = record('ioapic.message-remappable', 'VT-d 5.1.2.2', 8, {
  indexHigh: bit(2),
  format: bit(4),
  indexLow: bits(19, 5),
  head: bits(31, 20),
  vector: bits(39, 32),
  assert: bit(46),
  trigger: bit(47),
});
