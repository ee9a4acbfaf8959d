/**
 * Register interface of QEMU's edu device, a public interface documented at https://www.qemu.org/docs/master/specs/edu.html. What that
 * page leaves open (initial values, what a busy device ignores) is as QEMU 10.2 does it.
 */
import { bit, record } from '@remora/bits';
import { QEMU_SUBSYSTEM } from '@remora/pci';

export const VENDOR = 0x1234;
export const DEVICE = 0x11e8;
export const IDENTITY = {
  vendor: VENDOR,
  device: DEVICE,
  revision: 0x10,
  /** Unclassified, of no particular kind. */
  classCode: 0x00ff00,
  ...QEMU_SUBSYSTEM,
  interruptPin: 1,
} as const;
export const BAR_BYTES = 0x10_0000;

/** Register offsets. Below DMA_SRC accesses are of 4 bytes, from there on of 4 or 8. */
export const Reg = {
  ID: 0x00,
  /** Reads as the inverse of what was written. */
  LIVENESS: 0x04,
  /** Takes a number, and gives its factorial when STATUS.computing is clear again. */
  FACTORIAL: 0x08,
  STATUS: 0x20,
  /** What has raised the interrupt and is not acknowledged. */
  IRQ_STATUS: 0x24,
  IRQ_RAISE: 0x60,
  IRQ_ACK: 0x64,
  DMA_SRC: 0x80,
  DMA_DST: 0x88,
  DMA_COUNT: 0x90,
  DMA_CMD: 0x98,
} as const;

/** Version 1.0. */
export const IDENTIFICATION = 0x0100_00ed;

export const StatusWord = record('edu.status', 'edu: status register', 4, {
  /** Read-only. */
  computing: bit(0),
  /** Raise an interrupt when the factorial is there. */
  interrupt: bit(7),
});

export const DmaCommand = record('edu.dma-cmd', 'edu: DMA command register', 4, {
  run: bit(0),
  /** 0: from memory to the device's buffer; 1: from there to memory. */
  toMemory: bit(1),
  /** Raise an interrupt when the transfer is over. */
  interrupt: bit(2),
});

/** Values of IRQ_STATUS that the device raises itself. */
export const Irq = { FACTORIAL: 0x001, DMA: 0x100 } as const;

/** Where the buffer is for the DMA engine. It is not in the BAR. */
export const BUFFER_BASE = 0x4_0000;
export const BUFFER_BYTES = 4096;

/** Virtual time that a factorial, and a transfer, take. */
export const DELAY_NS = 100_000_000;

/** 28 bits. */
export const DEFAULT_DMA_MASK = '0xfffffff';
