/** The register window: what each write sets off (VT-d 11.4, vtd.md 1.1). */
import { hex } from '@remora/bits';
import type { MmioOps } from '@remora/core';
import { FRCD_F_OFFSET, Fsts, Reg, type VirtualCommandLayout } from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { VtdEnvironment } from './environment.js';
import type { EventInterrupt } from './event-interrupt.js';
import type { FaultRecording } from './fault-recording.js';
import type { GlobalCommands } from './global-command.js';
import type { InvalidationQueue } from './invalidation-queue.js';
import type { PageRequestQueue } from './page-request-queue.js';
import type { RegisterCommands } from './register-commands.js';
import type { RegisterFile } from './register-file.js';
import { isWideRegister } from './register-map.js';
import type { VtdTrace } from './trace-events.js';
import type { VirtualCommands } from './virtual-command.js';

const ALL_ONES = 0xffff_ffff;

/** Who acts on which register. */
export interface RegisterEffects {
  readonly faults: FaultRecording;
  readonly faultEvent: EventInterrupt;
  readonly completionEvent: EventInterrupt;
  readonly pageEvent: EventInterrupt;
  readonly pageQueue: PageRequestQueue;
  readonly queue: InvalidationQueue;
  readonly global: GlobalCommands;
  readonly commands: RegisterCommands;
  readonly virtual: VirtualCommands;
}

export class RegisterBlock {
  readonly ops: MmioOps;
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #layout: VirtualCommandLayout;
  readonly #registers: RegisterFile;
  readonly #environment: VtdEnvironment;
  readonly #effects: RegisterEffects;
  readonly #trace: VtdTrace;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    layout: VirtualCommandLayout,
    registers: RegisterFile,
    environment: VtdEnvironment,
    effects: RegisterEffects,
    trace: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#layout = layout;
    this.#registers = registers;
    this.#environment = environment;
    this.#effects = effects;
    this.#trace = trace;
    this.ops = {
      valid: { min: 4, max: 8 },
      impl: { min: 4, max: 8 },
      // The unit's own message may be handled while a register write is still being carried out, and its handler reads registers.
      reentrant: true,
      read: offset => {
        if (trace.vtd_reg_read.on) trace.vtd_reg_read.emit(offset, 4);
        return this.#read(offset, 4);
      },
      write: (offset, value) => {
        this.#logged(offset, 0, value, 4);
      },
      read64: (offset, out) => {
        if (trace.vtd_reg_read.on) trace.vtd_reg_read.emit(offset, 8);
        out[0] = this.#read(offset, 8);
        out[1] = this.#read(offset + 4, 4);
      },
      write64: (offset, hi, lo) => {
        this.#logged(offset, hi, lo, 8);
      },
    };
  }

  #read(offset: number, size: number): number {
    if (offset + size > this.#behaviour.windowBytes) return ALL_ONES;
    const within = offset - Reg.IQA;
    if ((within === 0 || within === 4) && this.#behaviour.queueAddressLatched)
      return this.#effects.queue.latchedAddress(within);
    return this.#registers.read(offset);
  }

  #logged(offset: number, hi: number, lo: number, size: number): void {
    const { vtd_reg_write: wrote } = this.#trace;
    if (wrote.on) wrote.emit(offset, size, size === 8 ? hex(hi, lo) : lo);
    if (offset + size > this.#behaviour.windowBytes) return;
    const { ledger, name } = this.#environment;
    if (ledger?.on !== true) {
      this.#dispatch(offset, hi, lo, size);
      return;
    }
    const id = ledger.open(name, 'mmio-write', { offset, size, hi: hi >>> 0, lo: lo >>> 0 });
    this.#dispatch(offset, hi, lo, size);
    ledger.close(id);
  }

  #dispatch(offset: number, hi: number, lo: number, size: number): void {
    if (size === 4) this.#write32(offset, lo | 0);
    else if (isWideRegister(offset, this.#caps, this.#layout)) this.#write64(offset, hi | 0, lo | 0);
    else {
      this.#write32(offset, lo | 0);
      this.#write32(offset + 4, hi | 0);
    }
  }

  /** A 64-bit register written at once acts once. */
  #write64(offset: number, hi: number, lo: number): void {
    if (this.#caps.virtualCommands && offset === this.#layout.VCMD) {
      this.#effects.virtual.written(hi, lo);
      return;
    }
    this.#registers.write(offset, lo);
    this.#registers.write(offset + 4, hi);
    this.#act(offset);
    this.#act(offset + 4);
  }

  #write32(offset: number, value: number): void {
    if (this.#caps.virtualCommands && offset === this.#layout.VCMD) this.#effects.virtual.lowWritten(value);
    else if (this.#caps.virtualCommands && offset === this.#layout.VCMD + 4) this.#effects.virtual.highWritten(value);
    else {
      this.#registers.write(offset, value);
      this.#act(offset);
    }
  }

  /** The dword at `offset` has been written. Command registers act on the dword that holds the command bit. */
  #act(offset: number): void {
    const effects = this.#effects;
    const trace = this.#trace;
    switch (offset) {
      case Reg.GCMD:
        effects.global.written();
        return;
      case Reg.CCMD + 4:
        effects.commands.contextCommandWritten();
        return;
      case Reg.FSTS:
        this.#faultStatusWritten();
        return;
      case Reg.FECTL:
        if (trace.vtd_reg_write_fectl.on) trace.vtd_reg_write_fectl.emit(this.#registers.get(offset));
        effects.faultEvent.controlWritten();
        return;
      case Reg.IQT:
        effects.queue.tailWritten();
        return;
      case Reg.ICS:
        if (this.#registers.get(Reg.ICS) !== 0 || !effects.completionEvent.serviced()) return;
        if (trace.vtd_reg_ics_clear_ip.on) trace.vtd_reg_ics_clear_ip.emit();
        return;
      case Reg.IECTL:
        if (trace.vtd_reg_write_iectl.on) trace.vtd_reg_write_iectl.emit(this.#registers.get(offset));
        effects.completionEvent.controlWritten();
        return;
      case Reg.PRS:
        effects.pageQueue.statusWritten();
        return;
      case Reg.PECTL:
        effects.pageEvent.controlWritten();
        return;
      case this.#caps.iotlbBase + 12:
        effects.commands.iotlbCommandWritten();
        return;
      default:
        if (this.#isFaultRecordEnd(offset)) effects.faults.recordWritten();
    }
  }

  #faultStatusWritten(): void {
    this.#effects.faults.statusWritten();
    const stopped = (this.#registers.get(Reg.FSTS) & (Fsts.IQE | Fsts.ITE)) !== 0;
    if (!stopped && this.#behaviour.clearingErrorResumesQueue) this.#effects.queue.run();
  }

  #isFaultRecordEnd(offset: number): boolean {
    const within = offset - this.#caps.faultRecordBase;
    return within >= 0 && within < this.#caps.faultRecords * 16 && within % 16 === FRCD_F_OFFSET;
  }
}
