import { hex } from '@remora/bits';
import type { Reg } from '../spec/index.js';
import type { VtdEnvironment } from './environment.js';
import type { RegisterFile } from './register-file.js';
import type { VtdTrace } from './trace-events.js';

const IM = 0x8000_0000 | 0;
const IP = 0x4000_0000;

/**
 * One event interrupt (VT-d 5.1.6): fault events, invalidation completions or page requests. Four registers: control, data, address, upper
 * address, from `base`.
 */
export class EventInterrupt {
  readonly #registers: RegisterFile;
  readonly #environment: VtdEnvironment;
  readonly #control: number;
  readonly #trace: VtdTrace;

  constructor(
    registers: RegisterFile,
    environment: VtdEnvironment,
    base: typeof Reg.FECTL | typeof Reg.IECTL | typeof Reg.PECTL,
    trace: VtdTrace,
  ) {
    this.#registers = registers;
    this.#environment = environment;
    this.#control = base;
    this.#trace = trace;
  }

  /** The event happened: sends the message, or leaves it pending while masked. */
  raise(): void {
    this.#registers.update(this.#control, 0, IP);
    this.controlWritten();
  }

  /** Software wrote the control register: a pending message goes out once it is unmasked. */
  controlWritten(): void {
    const registers = this.#registers;
    if ((registers.get(this.#control) & (IM | IP)) !== IP) return;
    registers.update(this.#control, IP, 0);
    const base = this.#control;
    const hi = registers.get(base + 12) >>> 0;
    const lo = registers.get(base + 8) >>> 0;
    const data = registers.get(base + 4) >>> 0;
    const { vtd_irq_generate: generated } = this.#trace;
    if (generated.on) generated.emit(hex(hi, lo), data);
    this.#environment.sendMsi(hi, lo, data);
  }

  /** Software has dealt with all that the event stood for: nothing is pending any more. Returns whether something was. */
  serviced(): boolean {
    const pending = (this.#registers.get(this.#control) & IP) !== 0;
    this.#registers.update(this.#control, IP, 0);
    return pending;
  }
}
