/** The DMA engine: one transfer at a time between memory and a buffer of 4 KiB that only it can reach. */
import { hiOf, loOf } from '@remora/bits';
import {
  type Inspector,
  logger,
  MemTx,
  type StateReader,
  type StateWriter,
  type Timer,
  type VirtualClock,
} from '@remora/core';
import type { PciFunction } from '@remora/pci';
import { BUFFER_BASE, BUFFER_BYTES, DELAY_NS, DmaCommand, Reg } from './spec.js';

const REGISTERS = (Reg.DMA_CMD + 8 - Reg.DMA_SRC) / 4;
// Words of the registers: each has a low and a high one.
const SOURCE = 0;
const TARGET = (Reg.DMA_DST - Reg.DMA_SRC) / 4;
const COUNT = (Reg.DMA_COUNT - Reg.DMA_SRC) / 4;
const COMMAND = (Reg.DMA_CMD - Reg.DMA_SRC) / 4;

export interface EduDmaOptions {
  readonly clock: VirtualClock;
  /** Address bits that the engine has. */
  readonly mask: bigint;
  /** A transfer that was to raise an interrupt is over. */
  readonly finished: () => void;
}

export class EduDma {
  readonly #fn: PciFunction;
  readonly #options: EduDmaOptions;
  readonly #maskHi: number;
  readonly #maskLo: number;
  readonly #regs = new Int32Array(REGISTERS);
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #timer: Timer | undefined;

  constructor(fn: PciFunction, options: EduDmaOptions) {
    this.#fn = fn;
    this.#options = options;
    this.#maskHi = hiOf(options.mask) | 0;
    this.#maskLo = loOf(options.mask) | 0;
  }

  /** Whether a register starts at `offset`. */
  has(offset: number): boolean {
    return offset >= Reg.DMA_SRC && offset <= Reg.DMA_CMD && (offset & 7) === 0;
  }

  /** The low word of a register. */
  readLo(offset: number): number {
    return this.#regs[(offset - Reg.DMA_SRC) / 4]! >>> 0;
  }

  readHi(offset: number): number {
    return this.#regs[(offset - Reg.DMA_SRC) / 4 + 1]! >>> 0;
  }

  /** Writes a register whole. While a transfer runs that has no effect; neither has a command that starts none. */
  write(offset: number, hi: number, lo: number): void {
    if (this.#running) return;
    const at = (offset - Reg.DMA_SRC) / 4;
    if (at === COMMAND && (lo & DmaCommand.encode({ run: 1 })[0]!) === 0) return;
    this.#regs[at] = lo;
    this.#regs[at + 1] = hi;
    if (at === COMMAND) this.#timer = this.#options.clock.after(DELAY_NS, () => this.#transfer());
  }

  get #running(): boolean {
    return DmaCommand.fields.run.get(this.#regs, COMMAND) === 1;
  }

  /** A transfer beyond the buffer moves nothing, and one that memory refuses gives zeros. It is over all the same. */
  #transfer(): void {
    const { run, toMemory, interrupt } = DmaCommand.fields;
    const outwards = toMemory.get(this.#regs, COMMAND) === 1;
    const window = this.#window(outwards ? SOURCE : TARGET);
    const at = outwards ? TARGET : SOURCE;
    const hi = this.#regs[at + 1]! & this.#maskHi;
    const lo = this.#regs[at]! & this.#maskLo;
    if (window === undefined) {
      log.warn('%s: a transfer beyond the buffer of %d bytes is not performed', this.#fn.name, BUFFER_BYTES);
    } else if (outwards) {
      this.#fn.dma.write(hi, lo, window);
    } else {
      const bytes = new Uint8Array(window.length);
      if (this.#fn.dma.read(hi, lo, bytes) !== MemTx.OK) bytes.fill(0);
      window.set(bytes);
    }
    run.set(this.#regs, COMMAND, 0);
    if (interrupt.get(this.#regs, COMMAND) === 1) this.#options.finished();
  }

  /** The part of the buffer that the register at `at` and the count name; undefined if it is not inside. */
  #window(at: number): Uint8Array | undefined {
    const start = (this.#regs[at]! >>> 0) - BUFFER_BASE;
    const count = this.#regs[COUNT]! >>> 0;
    const narrow = this.#regs[at + 1] === 0 && this.#regs[COUNT + 1] === 0;
    if (!narrow || start < 0 || start + count > BUFFER_BYTES) return undefined;
    return this.#buffer.subarray(start, start + count);
  }

  reset(): void {
    this.cancel();
    this.#regs.fill(0);
    this.#buffer.fill(0);
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  save(into: StateWriter): void {
    into
      .words('registers', this.#regs)
      .bytes('buffer', this.#buffer)
      .timer('transfer', this.#timer, this.#options.clock.now);
  }

  load(from: StateReader): void {
    this.cancel();
    from.words('registers', this.#regs);
    from.bytes('buffer', this.#buffer);
    this.#timer = from.timer('transfer', this.#options.clock, () => this.#transfer());
  }

  inspect(into: Inspector): void {
    into.record('command', DmaCommand, this.#regs, COMMAND);
    into.value('count', this.#regs[COUNT]! >>> 0);
  }
}

const log = logger('remora:hw:edu');
