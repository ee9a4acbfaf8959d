/** What a unit says it can do, as its driver reads it once (VT-d 11.4.1 to 11.4.3). */
import { Cap, Ecap, Reg } from '../spec/index.js';
import type { LeafShift } from './page-table.js';
import type { VtdRegisters } from './registers.js';

type Fields<R extends { decode(words: Int32Array): Record<string, unknown> }> = {
  readonly [K in keyof ReturnType<R['decode']>]: number;
};

export class VtdCapabilities {
  /** VER: major in bits 7:4, minor in 3:0. */
  readonly version: number;
  /** Fields of CAP, by the names in `spec`. */
  readonly cap: Fields<typeof Cap>;
  readonly ecap: Fields<typeof Ecap>;
  /** CAP and ECAP as they were read: low word, high word. */
  readonly capWords = new Int32Array(2);
  readonly ecapWords = new Int32Array(2);

  /** @throws Error if nothing answers in the register window. */
  constructor(registers: VtdRegisters) {
    const words = this.capWords;
    registers.read64(Reg.CAP, words);
    const absent = (words[0] === 0 && words[1] === 0) || (words[0] === -1 && words[1] === -1);
    if (absent) throw new Error('VT-d: no unit answers in the register window');
    this.cap = numbers(Cap.decode(words));
    registers.read64(Reg.ECAP, this.ecapWords);
    this.ecap = numbers(Ecap.decode(this.ecapWords));
    this.version = registers.read32(Reg.VER) & 0xff;
  }

  /** Domain ids are below this. */
  get domains(): number {
    return 2 ** (4 + 2 * this.cap.nd);
  }

  /** Number of PASID bits; 0 without PASIDs. */
  get pasidBits(): number {
    return this.ecap.pasid ? this.ecap.pss + 1 : 0;
  }

  /** Byte offset of fault record 0. */
  get faultRecords(): number {
    return this.cap.fro * 16;
  }

  /** Byte offset of IVA; the IOTLB register is 8 bytes further. */
  get iotlbRegisters(): number {
    return this.ecap.iro * 16;
  }

  /** Levels of the widest second stage that software uses by default: SAGAW up to 48 bits, else what there is; 0 if nothing. */
  get secondStageLevels(): 0 | 3 | 4 | 5 {
    const widths = this.cap.sagaw;
    if (widths & 4) return 4;
    return widths & 2 ? 3 : widths & 8 ? 5 : 0;
  }

  /** log2 of the largest second-stage leaf in bytes. */
  get largestSecondStageLeaf(): LeafShift {
    if (this.cap.sslps & 2) return 30;
    return this.cap.sslps & 1 ? 21 : 12;
  }
}

function numbers<T extends Record<string, number | bigint>>(decoded: T): { readonly [K in keyof T]: number } {
  return Object.fromEntries(Object.entries(decoded).map(([name, value]) => [name, Number(value)])) as {
    [K in keyof T]: number;
  };
}
