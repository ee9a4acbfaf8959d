/** A guest's driver for the dma-engine: the same for an emulated engine and for one passed through. */
import { hiOf, loOf, numberOf, type Wide } from '@remora/bits';
import { MemTx } from '@remora/core';
import { Ctrl, IDENTIFICATION, Operation, PasidWord, Reg, StatusWord } from '@hw/dma-engine';
import type { Machine } from '@remora/machine';

/** Type 0 configuration space. */
const COMMAND = 0x04;
const BAR0 = 0x10;
const BAR2 = 0x18;
const MEMORY_AND_MASTER = 0x6;
const BAR_SPACING = 0x1_0000;

/** How a command ended. */
export interface EngineResult {
  readonly ok: boolean;
  /** It has not ended: it takes its time, or waits for a page. */
  readonly busy: boolean;
  /** EngineError. */
  readonly error: number;
  /** MemTx of the access that failed. */
  readonly result: number;
  /** Whether that access was a write. */
  readonly failedWrite: boolean;
  /** Its address. */
  readonly failedAt: number;
  /** Bytes that arrived. */
  readonly moved: number;
}

export interface EngineCommand {
  /** Requests carry this PASID; without it they carry none. */
  readonly pasid?: number;
  readonly to: Wide;
  readonly length: number;
  /** Raise the engine's interrupt when done. */
  readonly interrupt?: boolean;
}

export class GuestEngine {
  readonly bdf: string;
  readonly #machine: Machine;
  readonly #base: number;
  readonly #dword = new Uint8Array(4);
  readonly #view = new DataView(this.#dword.buffer);

  /** Its BARs go to `base`, unless they are `placed` there already. @throws Error if there is no dma-engine at `bdf`. */
  constructor(machine: Machine, bdf: string, base: number, placed = false) {
    this.#machine = machine;
    this.bdf = bdf;
    this.#base = base;
    if (placed) return;
    machine.config.write(bdf, BAR0, base, 4);
    machine.config.write(bdf, BAR2, base + BAR_SPACING, 4);
    machine.config.write(bdf, COMMAND, MEMORY_AND_MASTER, 2);
    if (this.read(Reg.ID) !== IDENTIFICATION) throw new Error(`no dma-engine answers at ${bdf}`);
  }

  copy(command: EngineCommand & { readonly from: Wide }): EngineResult {
    this.write(Reg.SRC_LO, loOf(command.from));
    this.write(Reg.SRC_HI, hiOf(command.from));
    return this.#run(command, Operation.COPY);
  }

  fill(command: EngineCommand & { readonly pattern: number }): EngineResult {
    this.write(Reg.PATTERN, command.pattern);
    return this.#run(command, Operation.FILL);
  }

  /** Turns bus mastering on or off. */
  master(on: boolean): void {
    this.#machine.config.write(this.bdf, COMMAND, on ? MEMORY_AND_MASTER : 2, 2);
  }

  read(offset: number): number {
    const address = this.#base + offset;
    const result = this.#machine.memory.read(hiOf(address), loOf(address), this.#dword);
    return result === MemTx.OK ? this.#view.getUint32(0, true) : 0xffff_ffff;
  }

  write(offset: number, value: number): void {
    const address = this.#base + offset;
    this.#view.setUint32(0, value, true);
    this.#machine.memory.write(hiOf(address), loOf(address), this.#dword);
  }

  /** What has become of the last command until now. */
  result(): EngineResult {
    const status = StatusWord.decode(Int32Array.of(this.read(Reg.STATUS)));
    return {
      ok: status.done === 1 && status.error === 0,
      busy: status.busy === 1,
      error: Number(status.error),
      result: Number(status.result),
      failedWrite: status.failedWrite === 1,
      failedAt: numberOf(this.read(Reg.FAIL_HI), this.read(Reg.FAIL_LO)),
      moved: this.read(Reg.MOVED),
    };
  }

  #run(command: EngineCommand, operation: number): EngineResult {
    const { pasid, to, length, interrupt = false } = command;
    this.write(Reg.DST_LO, loOf(to));
    this.write(Reg.DST_HI, hiOf(to));
    this.write(Reg.LEN, length);
    this.write(Reg.PASID, PasidWord.encode({ pasid: pasid ?? 0, valid: pasid === undefined ? 0 : 1 })[0]!);
    this.write(Reg.CTRL, Ctrl.encode({ start: 1, command: operation, interrupt: Number(interrupt) })[0]!);
    return this.result();
  }
}
