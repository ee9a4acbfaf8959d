/** The virtual command interface (vtd.md 1.12, RFC v3.1 [A10], decisions "12"). A command completes within the write. */
import { VCRSP_IP, VirtualCommandCode, type VirtualCommandLayout } from '../spec/index.js';
import type { VtdEnvironment } from './environment.js';
import type { RegisterFile } from './register-file.js';

const PASID_BITS = 0xf_ffff;
const OPCODE_BITS = 0xff;

export class VirtualCommands {
  readonly #registers: RegisterFile;
  readonly #layout: VirtualCommandLayout;
  readonly #environment: VtdEnvironment;
  /** Q16: a write of the high dword alone executes it as a command. */
  readonly #highDwordExecutes: boolean;

  constructor(
    registers: RegisterFile,
    layout: VirtualCommandLayout,
    environment: VtdEnvironment,
    highDwordExecutes: boolean,
  ) {
    this.#registers = registers;
    this.#layout = layout;
    this.#environment = environment;
    this.#highDwordExecutes = highDwordExecutes;
  }

  /** Software wrote VCMD's low dword. */
  lowWritten(lo: number): void {
    if (this.#isBusy()) return;
    this.#execute(this.#registers.get(this.#layout.VCMD + 4), lo);
    this.#registers.set(this.#layout.VCMD, lo);
  }

  /** Software wrote VCMD's high dword alone. */
  highWritten(hi: number): void {
    if (this.#isBusy()) return;
    if (this.#highDwordExecutes) this.#execute(0, hi);
    this.#registers.set(this.#layout.VCMD + 4, hi);
  }

  /** Software wrote all of VCMD. */
  written(hi: number, lo: number): void {
    if (this.#isBusy()) return;
    this.#execute(hi, lo);
    this.#registers.set(this.#layout.VCMD, lo);
    this.#registers.set(this.#layout.VCMD + 4, hi);
  }

  /** While a command is in progress, writes are dropped. */
  #isBusy(): boolean {
    return (this.#registers.get(this.#layout.VCRSP) & VCRSP_IP) !== 0;
  }

  #execute(hi: number, lo: number): void {
    const layout = this.#layout;
    this.#respond(0, VCRSP_IP);
    const opcode = lo & OPCODE_BITS;
    if (opcode !== VirtualCommandCode.ALLOC_PASID && opcode !== VirtualCommandCode.FREE_PASID) {
      this.#respond(0, layout.status.undefined << layout.statusShift);
      return;
    }
    const shift = layout.pasidShift;
    const operand = ((lo >>> shift) | (hi << (32 - shift))) & PASID_BITS;
    const answer = this.#environment.propagation?.virtualCommand?.(opcode, operand);
    const status = layout.status[answer?.status ?? 'no-pasid'] << layout.statusShift;
    const pasid = answer?.status === 'ok' ? answer.result & PASID_BITS : 0;
    this.#respond(pasid >>> (32 - shift), (pasid << shift) | status);
  }

  #respond(hi: number, lo: number): void {
    this.#registers.set(this.#layout.VCRSP, lo);
    this.#registers.set(this.#layout.VCRSP + 4, hi);
  }
}
