/** GCMD and GSTS: one command bit a write, then wait for its status (VT-d 11.4.4). */
import { GlobalCommand, GSTS_LEVEL_BITS, Reg } from '../spec/index.js';
import type { VtdRegisters } from './registers.js';

/** After so many reads without the expected answer the unit is taken to be broken. */
const PATIENCE = 1_000_000;

/**
 * Reads until `done()` holds.
 * @throws Error naming `what` if it never does.
 */
export function poll(what: string, done: () => boolean): void {
  for (let tries = 0; tries < PATIENCE; tries++) if (done()) return;
  throw new Error(`VT-d: the unit does not answer: ${what}`);
}

/** GCMD cannot be read, so what is enabled is remembered here. */
export class GlobalCommands {
  readonly #registers: VtdRegisters;
  #enabled: number;

  /** Takes over what the unit has enabled at this moment. */
  constructor(registers: VtdRegisters) {
    this.#registers = registers;
    this.#enabled = this.status() & GSTS_LEVEL_BITS;
  }

  status(): number {
    return this.#registers.read32(Reg.GSTS);
  }

  /** Turns on a level bit (TE, QIE, IRE, CFI, EAFL). */
  enable(bit: number): void {
    this.#enabled |= bit;
    this.#registers.write32(Reg.GCMD, this.#enabled);
    this.#await(bit, bit);
  }

  disable(bit: number): void {
    this.#enabled &= ~bit;
    this.#registers.write32(Reg.GCMD, this.#enabled);
    this.#await(bit, 0);
  }

  /** Gives a one-shot command whose status bit comes on when it is done: SRTP, SIRTP, SFL. */
  once(bit: number): void {
    this.#registers.write32(Reg.GCMD, this.#enabled | bit);
    this.#await(bit, bit);
  }

  /** Write-buffer flush: its status bit is on while it runs. */
  flushWriteBuffer(): void {
    this.#registers.write32(Reg.GCMD, this.#enabled | GlobalCommand.WBF);
    this.#await(GlobalCommand.WBF, 0);
  }

  #await(bit: number, expected: number): void {
    poll(`GSTS bit 0x${(bit >>> 0).toString(16)}`, () => (this.status() & bit) === expected);
  }
}
