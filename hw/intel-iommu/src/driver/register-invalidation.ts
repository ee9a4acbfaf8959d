/** Invalidation through CCMD, IVA and IOTLB, for units or modes without a queue (VT-d 11.4.6 to 11.4.8). */
import { Errno } from '@remora/core';
import { frameOf } from '@remora/bits';
import { ContextCommand, InvalidateAddress, IotlbCommand, Reg } from '../spec/index.js';
import type { Drain, PageRange } from './descriptors.js';
import { poll } from './global-command.js';
import type { VtdRegisters } from './registers.js';

export class RegisterInvalidation {
  readonly #registers: VtdRegisters;
  readonly #iva: number;
  readonly #qword = new Int32Array(2);

  /** `iva`: byte offset of the IVA register. */
  constructor(registers: VtdRegisters, iva: number) {
    this.#registers = registers;
    this.#iva = iva;
  }

  /** 0; -EIO if the unit did not do it (CAIG 0). */
  contextCache(granularity: number, did: number, sid: number, fm: number): number {
    const command = ContextCommand.encode({ icc: 1, cirg: granularity, did, sid, fm });
    this.#run(Reg.CCMD, command);
    return ContextCommand.fields.caig.get(this.#qword, 0) === 0 ? -Errno.EIO : 0;
  }

  /** 0; -EIO if the unit did not do it (IAIG 0). */
  iotlb(granularity: number, did: number, drain: Drain, range?: PageRange): number {
    if (range !== undefined) {
      const address = InvalidateAddress.encode({
        am: range.addressMask,
        ih: Number(range.leaf ?? false),
        addr: frameOf(range.hi, range.lo),
      });
      this.#registers.write64(this.#iva, address[1]!, address[0]!);
    }
    const { reads, writes } = drain;
    this.#run(
      this.#iva + 8,
      IotlbCommand.encode({ ivt: 1, iirg: granularity, did, dr: Number(reads), dw: Number(writes) }),
    );
    return IotlbCommand.fields.iaig.get(this.#qword, 0) === 0 ? -Errno.EIO : 0;
  }

  /** Writes a command whose bit 63 starts it, and waits until the unit clears that; the answer stays in #qword. */
  #run(offset: number, command: Int32Array): void {
    this.#registers.write64(offset, command[1]!, command[0]!);
    poll(`register 0x${offset.toString(16)}`, () => {
      this.#registers.read64(offset, this.#qword);
      return this.#qword[1]! >= 0;
    });
  }
}
