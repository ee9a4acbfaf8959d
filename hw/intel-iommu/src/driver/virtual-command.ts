/** The guest's side of the virtual command interface: PASIDs come from the host through it (vtd.md 1.12). */
import { Errno } from '@remora/core';
import {
  VCCAP_PAS,
  VCRSP_IP,
  VirtualCommandCode,
  virtualCommandLayout,
  type VirtualCommandLayout,
} from '../spec/index.js';
import { poll } from './global-command.js';
import type { VtdRegisters } from './registers.js';

const PASID_MASK = 0xf_ffff;
const STATUS_MASK_3_0 = 0x3;
const STATUS_MASK_3_3 = 0x7f;

export class VirtualCommands {
  readonly #registers: VtdRegisters;
  readonly #layout: VirtualCommandLayout;
  readonly #statusMask: number;
  readonly #qword = new Int32Array(2);

  constructor(registers: VtdRegisters, version: '3.0' | '3.3') {
    this.#registers = registers;
    this.#layout = virtualCommandLayout(version);
    this.#statusMask = version === '3.0' ? STATUS_MASK_3_0 : STATUS_MASK_3_3;
  }

  /** VCCAP.PAS. Meaningful only if ECAP.VCS is set. */
  get offersPasids(): boolean {
    this.#registers.read64(this.#layout.VCCAP, this.#qword);
    return (this.#qword[0]! & VCCAP_PAS) !== 0;
  }

  /** A PASID; -ENOSPC if none is to be had; -ENODEV if the command is unknown; -EBUSY if another one is in progress. */
  allocatePasid(): number {
    const status = this.#command(VirtualCommandCode.ALLOC_PASID, 0);
    if (status < 0) return status;
    if (status === this.#layout.status['no-pasid']) return -Errno.ENOSPC;
    return status === this.#layout.status.ok ? this.#result() : -Errno.ENODEV;
  }

  /** 0; -EINVAL if the PASID is not one to be freed; -ENODEV and -EBUSY as above. */
  freePasid(pasid: number): number {
    const status = this.#command(VirtualCommandCode.FREE_PASID, pasid);
    if (status < 0) return status;
    if (status === this.#layout.status['no-pasid']) return -Errno.EINVAL;
    return status === this.#layout.status.ok ? 0 : -Errno.ENODEV;
  }

  /** Gives a command in one 64-bit write and waits. Returns the status code, or -EBUSY; the response stays in #qword. */
  #command(code: number, pasid: number): number {
    const { VCMD, VCRSP, pasidShift, statusShift } = this.#layout;
    this.#registers.read64(VCRSP, this.#qword);
    if ((this.#qword[0]! & VCRSP_IP) !== 0) return -Errno.EBUSY;
    this.#registers.write64(VCMD, pasid >>> (32 - pasidShift), code | (pasid << pasidShift));
    poll('VCRSP.IP', () => {
      this.#registers.read64(VCRSP, this.#qword);
      return (this.#qword[0]! & VCRSP_IP) === 0;
    });
    return (this.#qword[0]! >>> statusShift) & this.#statusMask;
  }

  #result(): number {
    const { pasidShift } = this.#layout;
    return ((this.#qword[0]! >>> pasidShift) | (this.#qword[1]! << (32 - pasidShift))) & PASID_MASK;
  }
}
