/** A guest's driver for the dma-engine: the same for an emulated engine and for one passed through. */
import { hiOf, loOf } from '@remora/bits';
import { MemTx } from '@remora/core';
import { IDENTIFICATION, Reg } from '@hw/dma-engine';
import type { Machine } from '@remora/machine';
import { GuestError } from './guest-error.js';
import { EngineDriver } from './engine-driver.js';

export { type EngineCommand, EngineDriver, type EngineResult } from './engine-driver.js';

/** Type 0 configuration space. */
const COMMAND = 0x04;
const BAR0 = 0x10;
const BAR2 = 0x18;
const MEMORY_AND_MASTER = 0x6;
const BAR_SPACING = 0x1_0000;

export class GuestEngine extends EngineDriver {
  readonly bdf: string;
  readonly #machine: Machine;
  readonly #base: number;
  readonly #dword = new Uint8Array(4);
  readonly #view = new DataView(this.#dword.buffer);

  /** Its BARs go to `base`, unless they are `placed` there already. @throws GuestError if there is no dma-engine at `bdf`. */
  constructor(machine: Machine, bdf: string, base: number, placed = false) {
    super();
    this.#machine = machine;
    this.bdf = bdf;
    this.#base = base;
    if (placed) return;
    machine.config.write(bdf, BAR0, base, 4);
    machine.config.write(bdf, BAR2, base + BAR_SPACING, 4);
    machine.config.write(bdf, COMMAND, MEMORY_AND_MASTER, 2);
    if (this.read(Reg.ID) !== IDENTIFICATION) throw new GuestError(`no dma-engine answers at ${bdf}`);
  }

  /** Turns bus mastering on or off. */
  master(on: boolean): void {
    this.#machine.config.write(this.bdf, COMMAND, on ? MEMORY_AND_MASTER : 2, 2);
  }

  override read(offset: number): number {
    const address = this.#base + offset;
    const result = this.#machine.memory.read(hiOf(address), loOf(address), this.#dword);
    return result === MemTx.OK ? this.#view.getUint32(0, true) : 0xffff_ffff;
  }

  override write(offset: number, value: number): void {
    const address = this.#base + offset;
    this.#view.setUint32(0, value, true);
    this.#machine.memory.write(hiOf(address), loOf(address), this.#dword);
  }
}
