/** What a driver of the dma-engine does, however it gets at the registers. */
import { hiOf, loOf, numberOf, type Wide } from '@remora/bits';
import { Ctrl, Operation, PasidWord, Reg, StatusWord } from '@hw/dma-engine';

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

export abstract class EngineDriver {
  abstract read(offset: number): number;
  abstract write(offset: number, value: number): void;

  copy(command: EngineCommand & { readonly from: Wide }): EngineResult {
    this.write(Reg.SRC_LO, loOf(command.from));
    this.write(Reg.SRC_HI, hiOf(command.from));
    return this.#run(command, Operation.COPY);
  }

  fill(command: EngineCommand & { readonly pattern: number }): EngineResult {
    this.write(Reg.PATTERN, command.pattern);
    return this.#run(command, Operation.FILL);
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
