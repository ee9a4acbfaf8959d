/** A machine as what a qtest server holds. */
import { type AddressSpace, MemTx, type Section } from '@remora/core';
import type { Machine } from '@remora/machine';
import type { QtestLines, QtestMemory, QtestPins, QtestPorts, QtestTarget } from '@remora/qtest';
import { IOAPIC_PINS, Q35 } from '@hw/q35';

const TWO_32 = 2 ** 32;
const FILL_BYTES = 0x1_0000;
const IOAPIC = '/machine/q35/ioapic';
const IOAPIC_PATHS = ['ioapic', 'q35/ioapic', IOAPIC];
/** Its messages leave through memory: as in QEMU, its outputs can be intercepted, and there are none. */
const NO_LINES: QtestLines = { count: 0, watch: () => ({ [Symbol.dispose]: () => undefined }) };

/** `machine` undefined is the machine `none`: nothing is there, and reads as that. */
export function qtestTarget(machine: Machine | undefined): QtestTarget {
  const ioapic = machine?.board instanceof Q35 ? machine.board.ioapic : undefined;
  const pins: QtestPins | undefined = ioapic && {
    count: IOAPIC_PINS,
    set: (pin, level) => ioapic.set(pin, level),
    watch: changed => ioapic.watch(changed),
  };
  const isIoapic = (path: string): boolean => pins !== undefined && IOAPIC_PATHS.includes(path);
  return {
    endianness: 'little',
    memory: new ProcessorMemory(machine?.memory),
    ports: portsOf(machine?.ports),
    clock: machine?.clock ?? new StandingClock(),
    findDevice: path =>
      isIoapic(path) ? IOAPIC : machine?.ids.find(id => id === path.slice(path.lastIndexOf('/') + 1)),
    inputs: (path, name) => (isIoapic(path) && name === undefined ? pins : undefined),
    outputs: (path, name) => (isIoapic(path) && name === undefined ? NO_LINES : undefined),
    loadModule: (prefix, name) => prefix === 'hw-' && machine?.deviceKinds.some(({ id }) => id === name) === true,
  };
}

/** Time of a machine in which nothing waits. */
class StandingClock {
  now = 0;

  next(): undefined {
    return undefined;
  }

  set(ns: number): void {
    this.now = ns;
  }
}

/**
 * Memory as processors see it: registers get naturally aligned accesses of up to 8 bytes, and what nobody answers reads as zeroes, like
 * what a device refuses. The rest of such an access goes on.
 */
class ProcessorMemory implements QtestMemory {
  readonly #space: AddressSpace | undefined;

  constructor(space: AddressSpace | undefined) {
    this.#space = space;
  }

  read(hi: number, lo: number, out: Uint8Array): void {
    out.fill(0);
    this.#pieces(hi, lo, out.length, (at, start, length) => {
      const part = out.subarray(start, start + length);
      if (this.#space!.read(Math.floor(at / TWO_32), at % TWO_32, part) !== MemTx.OK) part.fill(0);
    });
  }

  write(hi: number, lo: number, bytes: Uint8Array): void {
    this.#pieces(hi, lo, bytes.length, (at, start, length) => {
      this.#space!.write(Math.floor(at / TWO_32), at % TWO_32, bytes.subarray(start, start + length));
    });
  }

  fill(hi: number, lo: number, length: number, value: number): void {
    const pattern = new Uint8Array(Math.min(length, FILL_BYTES)).fill(value);
    this.#pieces(hi, lo, length, (at, _, count) => {
      for (let done = 0; done < count; done += pattern.length) {
        const run = pattern.subarray(0, Math.min(pattern.length, count - done));
        this.#space!.write(Math.floor((at + done) / TWO_32), (at + done) % TWO_32, run);
      }
    });
  }

  /** Calls `each` for every access: its address, and which bytes of the transfer it carries. Nothing lies beyond 2^53. */
  #pieces(hi: number, lo: number, length: number, each: (at: number, start: number, length: number) => void): void {
    const first = (hi >>> 0) * TWO_32 + (lo >>> 0);
    if (this.#space === undefined || first + length > Number.MAX_SAFE_INTEGER) return;
    for (let done = 0; done < length;) {
      const at = first + done;
      // Looked up anew each time: an access may change the map.
      const section = this.#space.sections().find(({ start, size }) => start + size > at);
      if (section === undefined) return;
      if (section.start > at) {
        done += section.start - at;
        continue;
      }
      const count = pieceLength(section, at, length - done);
      each(at, done, count);
      done += count;
    }
  }
}

function pieceLength({ region, start, size }: Section, at: number, left: number): number {
  const room = Math.min(left, start + size - at);
  if (region.mmio === undefined) return room;
  let piece = 8;
  while (piece > room || at % piece !== 0) piece /= 2;
  return piece;
}

/** Ports get naturally aligned accesses. Where nobody answers one of them, it reads ones. */
function portsOf(space: AddressSpace | undefined): QtestPorts {
  const bytes = new Uint8Array(4);
  const pieces = (port: number, size: number, each: (at: number, part: Uint8Array) => void): void => {
    for (let done = 0; done < size;) {
      let length = size - done;
      while ((port + done) % length !== 0 || length === 3) length--;
      each(port + done, bytes.subarray(done, done + length));
      done += length;
    }
  };
  return {
    read: (port, size) => {
      pieces(port, size, (at, part) => {
        if (space?.read(0, at, part) !== MemTx.OK) part.fill(0xff);
      });
      return bytes.subarray(0, size).reduceRight((value, byte) => value * 256 + byte, 0);
    },
    write: (port, size, value) => {
      for (let i = 0; i < size; i++) bytes[i] = value >>> (8 * i);
      pieces(port, size, (at, part) => void space?.write(0, at, part));
    },
  };
}
