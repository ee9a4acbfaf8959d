/** What a command of the engine does to memory: piece by piece, and from where it stopped if a page had to be waited for. */
import { Access, MemTx, NO_PASID, PAGE_BYTES, type StateReader, type StateWriter } from '@remora/core';
import { TlbAccess } from '@remora/pci';
import { Cursor } from './cursor.js';
import { Ctrl, EngineError, MAX_LENGTH, Operation, PasidWord, Reg, StatusWord } from './spec.js';

const CTRL = Reg.CTRL >>> 2;
const STATUS = Reg.STATUS >>> 2;
const PASID = Reg.PASID >>> 2;
const MOVED = Reg.MOVED >>> 2;

/** How a run ended, if not with an EngineError. */
export const Stop = {
  /** A page was requested; the transfer goes on when its answer came. */
  WAITING: -1,
  /** A reset, a move or another command came in between: nothing is left to report. */
  OVERTAKEN: -2,
} as const;

/** Where bytes come from and go to: the function's DMA, or its device TLB. Addresses, PASID and flags as in DmaTarget. */
export interface EngineMemory {
  read(hi: number, lo: number, out: Uint8Array, pasid: number, flags: number): TlbAccess;
  write(hi: number, lo: number, from: Uint8Array, pasid: number, flags: number): TlbAccess;
}

export class Transfer {
  readonly #memory: EngineMemory;
  /** The engine's. */
  readonly #regs: Int32Array;
  readonly #buffer = new Uint8Array(PAGE_BYTES);
  readonly #source = new Cursor();
  readonly #target = new Cursor();
  #left = 0;
  /** Bytes of the piece in `#buffer` that is to be written; 0 if the next one is to be fetched. */
  #fetched = 0;
  /** Counts transfers and what cancels them. */
  #epoch = 0;

  constructor(memory: EngineMemory, regs: Int32Array) {
    this.#memory = memory;
    this.#regs = regs;
  }

  /** Does what the registers say. Returns an EngineError or a Stop. */
  begin(): number {
    this.#epoch++;
    const length = this.#reg(Reg.LEN);
    const command = this.#command;
    if (command !== Operation.COPY && command !== Operation.FILL) return EngineError.COMMAND;
    if (length === 0 || length > MAX_LENGTH) return EngineError.LENGTH;
    this.#place();
    if (!this.#target.holds(length)) return EngineError.ADDRESS;
    if (command === Operation.COPY && !this.#source.holds(length)) return EngineError.ADDRESS;
    return this.resume();
  }

  /**
   * Page by page in ascending order, so that a failure names the first byte that could not be moved. Also goes on with a transfer that
   * waited, with the access that made it wait.
   */
  resume(): number {
    const epoch = this.#epoch;
    while (this.#left > 0) {
      if (this.#fetched === 0) {
        const stop = this.#fetch(epoch);
        if (stop !== EngineError.NONE) return stop;
      }
      const count = this.#fetched;
      const stop = this.#access(true, this.#target, this.#buffer.subarray(0, count), epoch);
      if (stop !== EngineError.NONE) return stop;
      this.#fetched = 0;
      this.#left -= count;
      this.#source.advance(count);
      this.#target.advance(count);
      this.#regs[MOVED]! += count;
    }
    return EngineError.NONE;
  }

  cancel(): void {
    this.#epoch++;
    this.#left = 0;
    this.#fetched = 0;
  }

  /** For a transfer that waits. The registers are the engine's to save. */
  save(into: StateWriter): void {
    into.bytes('fetched', this.#buffer.subarray(0, this.#fetched));
  }

  /** After the registers. */
  load(from: StateReader): void {
    this.#place();
    const moved = this.#reg(Reg.MOVED);
    this.#source.advance(moved);
    this.#target.advance(moved);
    this.#left -= moved;
    const fetched = from.anyBytes('fetched', Math.min(this.#left, PAGE_BYTES));
    this.#buffer.set(fetched);
    this.#fetched = fetched.length;
  }

  #place(): void {
    this.#source.set(this.#reg(Reg.SRC_HI), this.#reg(Reg.SRC_LO));
    this.#target.set(this.#reg(Reg.DST_HI), this.#reg(Reg.DST_LO));
    this.#left = this.#reg(Reg.LEN);
    this.#fetched = 0;
  }

  #fetch(epoch: number): number {
    if (this.#command === Operation.FILL) {
      const count = Math.min(this.#left, this.#target.left);
      const pattern = this.#reg(Reg.PATTERN);
      const done = this.#reg(Reg.MOVED);
      for (let i = 0; i < count; i++) this.#buffer[i] = pattern >>> (8 * ((done + i) & 3));
      this.#fetched = count;
      return EngineError.NONE;
    }
    const count = Math.min(this.#left, this.#source.left, this.#target.left);
    const stop = this.#access(false, this.#source, this.#buffer.subarray(0, count), epoch);
    if (stop === EngineError.NONE) this.#fetched = count;
    return stop;
  }

  #access(write: boolean, at: Cursor, chunk: Uint8Array, epoch: number): number {
    const { valid, pasid, execute, privileged } = PasidWord.fields;
    const tagged = valid.get(this.#regs, PASID) !== 0;
    const value = tagged ? pasid.get(this.#regs, PASID) : NO_PASID;
    const flags = tagged
      ? (!write && execute.get(this.#regs, PASID) !== 0 ? Access.EXECUTE : 0) |
        (privileged.get(this.#regs, PASID) !== 0 ? Access.PRIVILEGED : 0)
      : 0;
    const result = write
      ? this.#memory.write(at.hi, at.lo, chunk, value, flags)
      : this.#memory.read(at.hi, at.lo, chunk, value, flags);
    if (epoch !== this.#epoch) return Stop.OVERTAKEN;
    if (result === MemTx.OK) return EngineError.NONE;
    if (result === TlbAccess.WAITING) return Stop.WAITING;
    const refused = result === TlbAccess.REFUSED;
    StatusWord.fields.result.set(this.#regs, STATUS, refused ? MemTx.ACCESS_ERROR : result);
    StatusWord.fields.failedWrite.set(this.#regs, STATUS, write ? 1 : 0);
    this.#regs[Reg.FAIL_LO >>> 2] = at.lo;
    this.#regs[Reg.FAIL_HI >>> 2] = at.hi;
    return refused ? EngineError.PAGE : EngineError.MEMORY;
  }

  get #command(): number {
    return Ctrl.fields.command.get(this.#regs, CTRL);
  }

  #reg(offset: number): number {
    return this.#regs[offset >>> 2]! >>> 0;
  }
}
