/**
 * SMRAM and TSEG: the registers with which firmware takes memory away from everybody but system management mode, and locks that until
 * the next reset. There is no such mode here, so what is taken away reads as ones and swallows writes.
 */
import { type MmioOps, memoryBatch, Region } from '@remora/core';
import type { PciFunction } from '@remora/pci';
import {
  COMPATIBLE_AT,
  COMPATIBLE_BYTES,
  EXT_TSEG,
  EXT_TSEG_QUERY,
  Smbase,
  SMBASE_AT,
  SMBASE_BYTES,
  SMRAM_AT_RESET,
  SMRAM_REGISTERS,
  SMRAM_WRITABLE,
  SmramRegisters,
  TSEG_MIB,
} from './smram-spec.js';

const MIB = 0x10_0000;
const RESET = SmramRegisters.encode(SMRAM_AT_RESET)[0]!;
const AT = SMRAM_REGISTERS / 4;
const { smbase, global, lock, open, tsegEnable, tsegSize, high } = SmramRegisters.fields;
/** Over RAM. */
const PRIORITY = 1;

/** Nobody is there: QEMU's black holes answer so. */
const HOLE: MmioOps = {
  valid: { min: 1, max: 8 },
  impl: { min: 1, max: 4 },
  read: (_, size) => 2 ** (8 * size) - 1,
  write: () => undefined,
};

export interface SmramOptions {
  /** MiB of the extended TSEG; 0 if there is none. */
  readonly extendedTseg: number;
}

/** Where memory is hidden, and behind what. */
export interface SmramPlace {
  /** System memory. */
  readonly memory: Region;
  readonly pci: Region;
  /** Bytes of RAM below 4 GiB: TSEG is their end. */
  readonly lowRam: number;
}

export class SystemManagementRam {
  readonly #bridge: PciFunction;
  readonly #place: SmramPlace;
  readonly #options: SmramOptions;
  readonly #smbase = Region.mmio('smbase-blackhole', SMBASE_BYTES, HOLE);
  readonly #compatible: Region;
  #tseg: Region | undefined;
  #tsegMib = 0;
  /** The registers as they were in force last. */
  readonly #before = new Int32Array(1);

  constructor(bridge: PciFunction, place: SmramPlace, options: SmramOptions) {
    this.#bridge = bridge;
    this.#place = place;
    this.#options = options;
    this.#compatible = Region.alias('smram-region', place.pci, COMPATIBLE_AT, COMPATIBLE_BYTES);
    this.#smbase.enabled = false;
    place.memory.add(COMPATIBLE_AT, this.#compatible, PRIORITY);
    place.memory.add(SMBASE_AT, this.#smbase, PRIORITY);
    const { config } = bridge;
    const registers = { start: SMRAM_REGISTERS, end: SMRAM_REGISTERS + SmramRegisters.bytes };
    config.define(registers.start, 4, RESET, SmramRegisters.encode(SMRAM_WRITABLE)[0]!);
    if (options.extendedTseg > 0) config.define(EXT_TSEG, 2, options.extendedTseg, 0xffff);
    config.onWrite({ start: EXT_TSEG, end: EXT_TSEG + 2 }, () => this.#tellTseg());
    config.onWrite(registers, () => this.#written());
    bridge.onReset(() => this.#reset());
    bridge.onLoad(() => this.#take());
    this.#take();
  }

  /** What was locked until now is so no longer. */
  #reset(): void {
    this.#bridge.config.words[AT] = RESET;
    this.#take();
  }

  /** What the registers hold is in force, however it came there. */
  #take(): void {
    this.#before[0] = this.#bridge.config.words[AT]!;
    this.#show();
  }

  /** A guest wrote some of them: what a lock holds stays. */
  #written(): void {
    const { words } = this.#bridge.config;
    const before = this.#before;
    if (lock.get(before, 0) === 1) {
      // D_CLS is the only one that goes on being writable.
      for (const field of [global, lock, open, tsegEnable, tsegSize, high]) field.set(words, AT, field.get(before, 0));
    } else if (lock.get(words, AT) === 1) open.set(words, AT, 0);
    smbase.set(words, AT, smbaseAfter(smbase.get(before, 0), smbase.get(words, AT)));
    this.#take();
  }

  #tellTseg(): void {
    const { config } = this.#bridge;
    const { extendedTseg } = this.#options;
    if (extendedTseg > 0 && config.get16(EXT_TSEG) === EXT_TSEG_QUERY) config.set(EXT_TSEG, extendedTseg, 2);
  }

  #show(): void {
    const { words } = this.#bridge.config;
    const enabled = global.get(words, AT) === 1;
    const tseg = enabled && tsegEnable.get(words, AT) === 1;
    const size = TSEG_MIB[tsegSize.get(words, AT)] ?? this.#options.extendedTseg;
    memoryBatch(() => {
      this.#compatible.enabled = !(enabled && open.get(words, AT) === 1);
      this.#smbase.enabled = smbase.get(words, AT) === Smbase.LOCKED;
      this.#hideTseg(tseg && size * MIB <= this.#place.lowRam ? size : 0);
    });
  }

  #hideTseg(mib: number): void {
    if (mib === this.#tsegMib) return;
    const { memory, lowRam } = this.#place;
    if (this.#tseg !== undefined) memory.remove(this.#tseg);
    this.#tseg = mib === 0 ? undefined : Region.mmio('tseg-blackhole', mib * MIB, HOLE);
    this.#tsegMib = mib;
    if (this.#tseg !== undefined) memory.add(lowRam - mib * MIB, this.#tseg, PRIORITY);
  }
}

/** What F_SMBASE holds after `written` came to what was there. The feature has to be asked for before it can be locked. */
function smbaseAfter(before: number, written: number): number {
  if (before === Smbase.LOCKED) return Smbase.LOCKED;
  if (before === Smbase.OFFERED) return (written & Smbase.LOCKED) !== 0 ? Smbase.LOCKED : before;
  return written === Smbase.QUERY ? Smbase.OFFERED : before;
}
