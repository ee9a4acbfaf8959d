/**
 * QEMU's edu device (https://www.qemu.org/docs/master/specs/edu.html): a liveness check, a factorial, interrupts that the driver raises,
 * and a DMA engine.
 */
import {
  type Device,
  type Inspector,
  type MmioOps,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
  type Timer,
  type VirtualClock,
} from '@remora/core';
import { type PciDeviceContext, PciFunction } from '@remora/pci';
import type { EduConfig } from './config.js';
import { EduDma } from './dma-engine.js';
import { factorial } from './factorial.js';
import { BAR_BYTES, DELAY_NS, IDENTIFICATION, IDENTITY, Irq, Reg, StatusWord } from './spec.js';

/** What reads find where there is no register. */
const ALL_ONES = 0xffff_ffff;
const [LIVENESS, NUMBER, STATUS, IRQ_STATUS] = [0, 1, 2, 3];
const WORDS = 4;

export class Edu implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #plug: PciDeviceContext['plug'];
  readonly #clock: VirtualClock;
  readonly #regs = new Int32Array(WORDS);
  readonly #dma: EduDma;
  #timer: Timer | undefined;

  constructor(context: Pick<PciDeviceContext, 'name' | 'plug' | 'clock'>, config: EduConfig) {
    this.name = context.name;
    this.#plug = fn => context.plug(fn);
    this.#clock = context.clock;
    this.fn = new PciFunction(context.name, IDENTITY);
    this.fn.enableMsi(1, { maskable: false });
    this.fn.addBar(0, Region.mmio(`${context.name}.registers`, BAR_BYTES, this.#ops), { type: 'mem32' });
    this.fn.onReset(() => this.#clear());
    this.#dma = new EduDma(this.fn, {
      clock: context.clock,
      mask: BigInt(config.dma_mask),
      finished: () => this.#raise(Irq.DMA),
    });
  }

  readonly #ops: MmioOps = {
    valid: { min: 4, max: 8 },
    impl: { min: 4, max: 8 },
    read: offset => (this.#dma.has(offset) ? this.#dma.readLo(offset) : this.#read(offset)),
    write: (offset, value) => {
      if (this.#dma.has(offset)) this.#dma.write(offset, 0, value);
      else this.#write(offset, value);
    },
    // The registers below the DMA engine's are of 4 bytes only.
    read64: (offset, out) => {
      const there = this.#dma.has(offset);
      out[0] = there ? this.#dma.readLo(offset) : ALL_ONES;
      out[1] = there ? this.#dma.readHi(offset) : ALL_ONES;
    },
    write64: (offset, hi, lo) => {
      if (this.#dma.has(offset)) this.#dma.write(offset, hi, lo);
    },
  };

  #read(offset: number): number {
    switch (offset) {
      case Reg.ID:
        return IDENTIFICATION;
      case Reg.LIVENESS:
        return this.#regs[LIVENESS]! >>> 0;
      case Reg.FACTORIAL:
        return this.#regs[NUMBER]! >>> 0;
      case Reg.STATUS:
        return this.#regs[STATUS]! >>> 0;
      case Reg.IRQ_STATUS:
        return this.#regs[IRQ_STATUS]! >>> 0;
      default:
        return ALL_ONES;
    }
  }

  #write(offset: number, value: number): void {
    switch (offset) {
      case Reg.LIVENESS:
        this.#regs[LIVENESS] = ~value;
        break;
      case Reg.FACTORIAL:
        this.#compute(value);
        break;
      case Reg.STATUS: {
        const { interrupt } = StatusWord.fields;
        interrupt.set(this.#regs, STATUS, interrupt.get(Int32Array.of(value), 0));
        break;
      }
      case Reg.IRQ_RAISE:
        this.#raise(value);
        break;
      case Reg.IRQ_ACK:
        this.#acknowledge(value);
        break;
      default:
    }
  }

  /** A number that comes while another is computed is ignored. */
  #compute(number: number): void {
    const { computing } = StatusWord.fields;
    if (computing.get(this.#regs, STATUS) === 1) return;
    this.#regs[NUMBER] = number;
    computing.set(this.#regs, STATUS, 1);
    this.#timer = this.#clock.after(DELAY_NS, () => this.#computed());
  }

  #computed(): void {
    const { computing, interrupt } = StatusWord.fields;
    this.#regs[NUMBER] = factorial(this.#regs[NUMBER]! >>> 0);
    computing.set(this.#regs, STATUS, 0);
    if (interrupt.get(this.#regs, STATUS) === 1) this.#raise(Irq.FACTORIAL);
  }

  /** Each raise sends a message, or asserts INTx, as long as anything is not acknowledged. */
  #raise(value: number): void {
    this.#regs[IRQ_STATUS]! |= value;
    if (this.#regs[IRQ_STATUS] === 0) return;
    if (this.fn.messagesEnabled) this.fn.msi(0);
    else this.fn.intx.set(true);
  }

  /** INTx goes with the last one; a driver that has changed to MSI in between keeps it. */
  #acknowledge(value: number): void {
    this.#regs[IRQ_STATUS]! &= ~value;
    if (this.#regs[IRQ_STATUS] === 0 && !this.fn.messagesEnabled) this.fn.intx.set(false);
  }

  #cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#dma.cancel();
  }

  #clear(): void {
    this.#cancel();
    this.#regs.fill(0);
    this.#dma.reset();
  }

  realize(): void {
    this.#plug(this.fn);
  }

  /** DMA is cancelled in the first phase: IOMMUs reset later. */
  reset(phase: ResetPhase): void {
    if (phase === 'enter') this.#cancel();
    else if (phase === 'hold') this.fn.reset();
  }

  unplug(): void {
    this.fn.bus?.unplug(this.fn);
  }

  save(into: StateWriter): void {
    into.words('registers', this.#regs).timer('factorial', this.#timer, this.#clock.now);
    this.#dma.save(into.child('dma'));
  }

  load(from: StateReader): void {
    this.#cancel();
    from.words('registers', this.#regs);
    this.#timer = from.timer('factorial', this.#clock, () => this.#computed());
    this.#dma.load(from.child('dma'));
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    into.record('status', StatusWord, this.#regs, STATUS);
    into.value('interrupts', `0x${(this.#regs[IRQ_STATUS]! >>> 0).toString(16)}`);
    this.#dma.inspect(into.child('dma'));
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.fn.bus?.unplug(this.fn);
  }
}
