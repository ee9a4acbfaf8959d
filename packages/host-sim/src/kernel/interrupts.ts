/** The host's interrupt vectors: a function is given an address and data, and what it sends there finds its handler. */
import type { MsiSink } from '@remora/pci';
import type { FailureInjector } from '../options.js';

/** Where interrupt requests go (VT-d 3.14; Intel SDM 3A 10.11.1), to the first processor. */
const ADDRESS = 0xfee0_0000;
/** MSI data has 16 bits, and the vectors of one function are neighbours. */
const DATA_LIMIT = 0x1_0000;
const BLOCK = 32;

/** Vectors that were handed out: message `i` is `data + i`. */
export interface VectorBlock extends Disposable {
  readonly address: number;
  /** A multiple of 32. */
  readonly data: number;
}

interface Block {
  readonly start: number;
  readonly end: number;
  readonly fire: (vector: number) => void;
}

export class HostInterrupts {
  readonly #blocks: Block[] = [];
  readonly #fails: FailureInjector;
  #spurious = 0;

  constructor(fails: FailureInjector = () => 0) {
    this.#fails = fails;
  }

  /** Messages that nobody expected. */
  get spurious(): number {
    return this.#spurious;
  }

  /** Blocks that are handed out. */
  get inUse(): number {
    return this.#blocks.length;
  }

  /** `count` vectors that call `fire` with their index; undefined if so many are not left. */
  allocate(count: number, fire: (vector: number) => void): VectorBlock | undefined {
    if (this.#fails('interrupt vectors') !== 0) return undefined;
    const length = Math.ceil(count / BLOCK) * BLOCK;
    let start = BLOCK;
    let index = 0;
    for (; index < this.#blocks.length && start + length > this.#blocks[index]!.start; index++) {
      start = this.#blocks[index]!.end;
    }
    if (start + length > DATA_LIMIT) return undefined;
    const block = { start, end: start + length, fire };
    this.#blocks.splice(index, 0, block);
    return {
      address: ADDRESS,
      data: start,
      [Symbol.dispose]: () => {
        const at = this.#blocks.indexOf(block);
        if (at >= 0) this.#blocks.splice(at, 1);
      },
    };
  }

  readonly deliver: MsiSink = (_requesterId, _hi, _lo, data) => {
    const block = this.#blocks.find(({ start, end }) => data >= start && data < end);
    if (block === undefined) this.#spurious++;
    else block.fire(data - block.start);
  };
}
