/**
 * Plays the software of a guest: a VT-d driver on the machine's registers, page tables in its RAM, and drivers for its engines.
 * It reaches the machine only as a processor would: by memory, ports and configuration space.
 */
import { frameHi, frameLo } from '@remora/bits';
import { MemTx, PAGE_BYTES, type StateReader, type StateWriter } from '@remora/core';
import { VTD_BASE } from '@hw/intel-iommu';
import { FrameAllocator, MemoryMappedRegisters, PageTable, VtdDriver, type VtdRegisters } from '@hw/intel-iommu/driver';
import type { Machine } from '@remora/machine';
import { GuestEngine } from './guest-engine.js';

export interface GuestOptions {
  /** Layout of the virtual command registers; default 3.3. */
  readonly vcmdLayout?: '3.0' | '3.3';
  readonly mode?: 'legacy' | 'scalable';
  /** PASID bits that a function's directory covers; default: all that the unit has. */
  readonly pasidBits?: number;
  /** First page frame that the guest's own structures may take; default that at 2 MiB. */
  readonly firstFrame?: number;
  /** How many; default 2048. */
  readonly frames?: number;
}

/** Where the guest maps the BARs that it uses. */
const FIRST_BAR = 0xe000_0000;
const BAR_STEP = 0x10_0000;

export class Guest {
  readonly machine: Machine;
  readonly registers: VtdRegisters;
  readonly pages: FrameAllocator;
  readonly iommu: VtdDriver;
  #nextBar = FIRST_BAR;

  /** The register window of the machine's VT-d unit. */
  static registersOf(machine: Machine): VtdRegisters {
    return new MemoryMappedRegisters(machine.memory, VTD_BASE);
  }

  /** @throws Error if the machine has no VT-d unit, or one without the mode. */
  constructor(machine: Machine, options: GuestOptions = {}) {
    this.machine = machine;
    this.registers = Guest.registersOf(machine);
    this.pages = new FrameAllocator(machine.memory, options.firstFrame ?? 0x200, options.frames ?? 0x800);
    this.iommu = new VtdDriver(this.registers, machine.memory, this.pages, {
      mode: options.mode ?? 'scalable',
      vcmdLayout: options.vcmdLayout ?? '3.3',
      ...(options.pasidBits === undefined ? {} : { pasidBits: options.pasidBits }),
    });
  }

  /** What it remembers outside guest memory. Page tables are the caller's: their root says all. */
  save(into: StateWriter): void {
    into.integer('next-bar', this.#nextBar);
    this.pages.save(into.child('pages'));
    this.iommu.save(into.child('iommu'));
  }

  /** Goes on where `save` left off, on a machine whose state has been loaded: nothing is touched. */
  load(from: StateReader): void {
    this.#nextBar = from.integer('next-bar');
    this.pages.load(from.child('pages'));
    this.iommu.load(from.child('iommu'));
  }

  /** The dma-engine at `bdf` (`00:03.0`): its BARs are placed, memory and bus mastering enabled. */
  engine(bdf: string): GuestEngine {
    const base = this.#nextBar;
    this.#nextBar += BAR_STEP;
    return new GuestEngine(this.machine, bdf, base);
  }

  /** The `index`th engine that it placed, counted from 0, at `bdf`. */
  placedEngine(bdf: string, index = 0): GuestEngine {
    return new GuestEngine(this.machine, bdf, FIRST_BAR + index * BAR_STEP, true);
  }

  /** An empty first-stage table of four levels; or the one that is there, with its root at `rootFrame`. */
  firstStage(rootFrame?: number): PageTable {
    return new PageTable(this.machine.memory, this.pages, { stage: 'first', levels: 4 }, rootFrame);
  }

  /** An empty second-stage table of four levels; or the one that is there, with its root at `rootFrame`. */
  secondStage(rootFrame?: number): PageTable {
    return new PageTable(this.machine.memory, this.pages, { stage: 'second', levels: 4 }, rootFrame);
  }

  /** A zeroed page frame of guest RAM. @throws Error if the guest has none left. */
  page(): number {
    const frame = this.pages.allocate(1);
    if (frame < 0) throw new Error('the guest has no page left');
    return frame;
  }

  /** `length` bytes of guest memory from the start of `frame`. @throws Error outside RAM. */
  read(frame: number, length: number, offset = 0): Uint8Array {
    const out = new Uint8Array(length);
    this.#checked(frame, this.machine.memory.read(frameHi(frame), frameLo(frame) + offset, out));
    return out;
  }

  /** Writes `data` from the start of `frame`. @throws Error outside RAM. */
  write(frame: number, data: Uint8Array, offset = 0): void {
    if (offset + data.length > PAGE_BYTES) throw new RangeError('more than a page');
    this.#checked(frame, this.machine.memory.write(frameHi(frame), frameLo(frame) + offset, data));
  }

  #checked(frame: number, result: number): void {
    if (result !== MemTx.OK) throw new Error(`no guest memory at frame 0x${frame.toString(16)}`);
  }
}
